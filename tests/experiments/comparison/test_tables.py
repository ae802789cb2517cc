"""A comparison's Markdown tables fit a laptop's window, and lose nothing by that."""

from __future__ import annotations

from collections import Counter

from mrff.experiments.comparison.tables import narrow_tables

MEASURES = ("AUC", "LogLoss", "HR@10", "NDCG@10")
DIFFERENCES = [h for name in MEASURES for h in (f"{name} minus mrff [95%]", "p (Holm)")]
BEFORE = ["method", "kind", "runs", *MEASURES, "GAUC", "best round", "seconds", "MB up"]


def cells_of(table: str) -> list[list[str]]:
    return [line[2:-2].split(" | ") for line in table.splitlines()]


def test_runs_and_differences_are_narrow_tables_without_a_number_lost() -> None:
    runs = [f"0.7{n}00 ± 0.00{n}0" for n in range(10, 15)]
    tested = [c for n in range(4) for c in (f"**-0.0{n}83 [-0.0118, -0.0048]**", f"0.00{n}")]
    rival = ["boosted-trees-history", "floor", "3", *runs, "130", "6", "12.5", *tested]
    reference = ["mrff (reference)", "mrff", "3", *runs, "90", "7", "13.5", *[""] * 8]
    made = [cells_of(table) for table in narrow_tables([*BEFORE, *DIFFERENCES], [rival, reference])]
    assert all(len(f"| {' | '.join(row)} |") <= 110 for table in made for row in table)
    assert {table[0][0] for table in made} == {"method"}
    of_rival = [cell for table in made for cell in table[2][1:]]
    assert Counter(of_rival) == Counter(rival[1:])
    differing = [table for table in made if "p (Holm)" in table[0]]
    assert [table[0][1:] for table in differing] == [DIFFERENCES[:4], DIFFERENCES[4:]]
    assert [len(table) for table in differing] == [3, 3]  # the reference differs from nobody
    assert [len(table) for table in made if table not in differing] == [4, 4]


def test_two_measures_are_two_tables() -> None:
    headings = ["method", "kind", "runs", "AUC", "best round", *DIFFERENCES[:2]]
    lines = [["a", "floor", "1", "0.7000", "5", "-0.0100", "no test"]]
    runs, differences = narrow_tables(headings, lines)
    assert cells_of(runs)[2] == ["a", "floor", "1", "0.7000", "5"]
    assert cells_of(differences)[2] == ["a", "-0.0100", "no test"]
