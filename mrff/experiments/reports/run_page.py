"""The page of one run: what came out, how it got there, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from mrff.config import RunConfig
from mrff.data.dataset import load_dataset
from mrff.data.floors import Floor, Floors, floors
from mrff.experiments.comparison.measures import TESTED
from mrff.experiments.reports import curves, group_charts
from mrff.experiments.reports.activity import (
    SHOWN,
    Class,
    People,
    classes,
    everybody,
    fares_figure,
    told,
)
from mrff.experiments.reports.calibration import calibration_figure
from mrff.experiments.reports.figures import Entries, Entry, column, is_known, of_kind
from mrff.experiments.reports.groups import GroupPicture, read_picture
from mrff.experiments.reports.overview import verdict
from mrff.experiments.reports.page import measure, render
from mrff.ops.trained_run import find_run, load_history, read_json
from server_app.run.absences import absences, where_missing
from server_app.run.progress import among_drawn


def run_page(
    run: str,
    *,
    data_dir: Path | None,
    state_dir: Path | None,
    public: bool = False,
    against: str | None = None,
) -> str:
    """Reads the run and writes its page.

    Args:
        public: leave out what is drawn from the nodes' private state.
        against: another run, whose groups are compared with these.

    Raises:
        RunError: there is no such run, it has no history, or a file is damaged.
    """
    folder = find_run(run)
    history, summary = load_history(folder), read_json(folder.summary)
    config = RunConfig.from_flat(read_json(folder.config))
    data = (data_dir or config.dataset_path).expanduser().absolute()
    picture, why_not = None, "--public"
    if not public:
        picture, why_not = read_picture(run, data_dir, state_dir, against)
    people = picture.people if picture else None
    return render(
        "run.html.j2",
        name=folder.name,
        config=config,
        finished=bool(summary),
        nodes_missing=_missing(history, summary),
        **_quality(history, data, config, people),
        **_users(people),
        **_lists(history),
        **_groups(history, picture, why_not),
        **_cost_of_privacy(history, config),
        **_traffic(history),
        **_settings(config),
    )


def _users(people: People | None) -> dict[str, Any]:
    """How users of little and much history fare, and what predictions are worth."""
    found = classes(people) if people else []
    names = [name for name in SHOWN if any(name in one.fares for one in found)]
    return {
        "fares": {TESTED[name].label: fares_figure(found, name) for name in names},
        "class_headings": ("users", "rows before the test", "number", *_fare_headings(names)),
        "class_rows": [
            [one.name, told(one.rows), f"{one.users:,}", *_fare_cells(one, names)] for one in found
        ],
        "calibration": calibration_figure(people.scores) if people else None,
    }


def _fare_headings(names: list[str]) -> list[str]:
    of = [(TESTED[name].label, f"best simpler {TESTED[name].label}") for name in names]
    return [heading for pair in of for heading in pair]


def _fare_cells(one: Class, names: list[str]) -> list[str]:
    cells = []
    for name in names:
        fare = one.fares.get(name)
        best = max(fare.others.items(), key=lambda pair: pair[1], default=None) if fare else None
        cells.append("–" if fare is None else f"{fare.own:.4f}")
        cells.append("–" if best is None else f"{best[1]:.4f} ({best[0]})")
    return cells


def _quality(
    history: Entries, data: Path, config: RunConfig, people: People | None
) -> dict[str, Any]:
    """The curves of what is measured, and the table of clicks beside the floors of rates."""
    validations, test = of_kind(history, "validation"), _test(history)
    titles = [title for title, name in curves.MEASURES.items() if is_known(validations, name)]
    clicks = "auc" in (test or next(iter(validations), {}))
    scored = clicks and config.tests
    valid, why_not = _floors(data, config, "valid") if scored else (None, "")
    rows: list[list[str]] = []
    levels: dict[str, float] = {}
    if test is not None and clicks:
        lowest, _ = _floors(data, config, "test")
        for field, name in curves.FLOORS.items():
            floor: Floor | None = getattr(lowest, field, None)
            if floor is not None:
                levels[name] = floor.auc
                rows.append([name, measure(floor.auc), measure(floor.log_loss), "pooled data"])
        rows.append(["MRFF", measure(test["auc"]), measure(test["log_loss"]), "sums of updates"])
    return {
        "test": test,
        "conclusion": verdict(test, levels, everybody(people) if people else {}),
        "tiles": [] if test is None else _tiles(test),
        "test_rows": rows,
        "best_round": curves.best_round(history),
        "quality": {title: curves.quality_figure(history, title, valid) for title in titles},
        "loss": curves.loss_figure(history),
        "no_floors": why_not,
    }


def _lists(history: Entries) -> dict[str, Any]:
    """The table of next items: what the test ranked by, the run's own mix last."""
    test = _test(history) or {}
    parts = {"MRFF": test, **test.get("parts", {})} if "hr10" in test else {}
    named = {"mixed": "", "network": "its network alone", "linear": "its linear models alone"}
    rows = [
        [named.get(name, name), *(measure(of[key]) for key in ("hr10", "ndcg10", "mrr10"))]
        for name, of in reversed(parts.items())
        if named.get(name, name)
    ]
    drawn = test.get("drawn")
    return {"list_rows": rows, "drawn": "" if drawn is None else among_drawn(drawn)}


def _tiles(test: Entry) -> list[tuple[str, str, str]]:
    """Label, value and note of the test's main measures."""
    on = f"test, {test['targets']:,} targets of {test['users']:,} users"
    known = {
        "auc": ("AUC", on),
        "log_loss": ("LogLoss", "test, natural logarithm"),
        "calibration_error": ("calibration error", "test"),
        "hr10": ("HR@10", on),
        "ndcg10": ("NDCG@10", "test"),
        "coverage10": ("coverage", "share of items in any list of ten"),
    }
    return [(name, measure(test[key]), note) for key, (name, note) in known.items() if key in test]


def _test(history: Entries) -> Entry | None:
    return next(reversed(of_kind(history, "test")), None)


def _groups(history: Entries, picture: GroupPicture | None, why_not: str) -> dict[str, Any]:
    entries = group_charts.entries_with_loads(history)
    known = picture or GroupPicture(flows=[], layers=[], users=0)
    layers = range(len(entries[0]["loads"]) if entries else 0)
    return {
        "loads": [group_charts.loads_figure(entries, layer) for layer in layers],
        "loads_are_exact": bool(entries) and entries[0]["kind"] == "validation",
        "evenness": group_charts.entropy_figure(history),
        "churn": group_charts.churn_figure(history),
        "no_picture": None if picture else why_not,
        "group_users": known.users,
        "verdict": known.verdict if picture else "",
        "agreement": known.agreement,
        "flow": group_charts.flow_figure(known),
        "layers": [
            {
                "number": number,
                "likes": group_charts.likes_figure(groups),
                "rows": group_charts.likes_rows(groups, known.users),
            }
            for number, groups in enumerate(known.layers, start=1)
        ],
    }


def _cost_of_privacy(history: Entries, config: RunConfig) -> dict[str, Any]:
    spent = [v for v in column(of_kind(history, "round"), "privacy.epsilon") if v is not None]
    return {
        "epsilon_spent": spent[-1] if spent else None,
        "epsilon": curves.epsilon_figure(history, config.privacy.epsilon_budget or 0.0),
        "noise": curves.noise_figure(history),
        "predictable": is_known(of_kind(history, "round"), "privacy.predictable_noise"),
    }


def _traffic(history: Entries) -> dict[str, Any]:
    rounds = of_kind(history, "round")
    return {
        "last_round": rounds[-1]["round"] if rounds else 0,
        "bytes": {way: _sum(history, f"bytes_{way}") for way in ("down", "up")},
        "seconds": _sum(history, "seconds"),
        "first_seconds": rounds[0].get("seconds", 0.0) if rounds else 0.0,
        "traffic": curves.bytes_figure(history),
        "time": curves.seconds_figure(history),
        "sent": _sum(history, "sent"),
        "dropped_users": _sum(history, "dropped_users"),
        "rejected": [row for entry in history for row in _rejected(entry)],
    }


def _missing(history: Entries, summary: Entry) -> str:
    """In which phases; earlier versions' summaries do not say."""
    found = summary.get("nodes_missing") or absences(history)
    return where_missing(found) if found else ""


def _sum(history: Entries, name: str) -> Any:
    return sum(entry.get(name, 0) for entry in history)


def _rejected(entry: Entry) -> list[list[str]]:
    """Round, phase, node and reason of what did not count."""
    reasons = [(reply["node"], reply["reason"]) for reply in entry.get("rejected", [])]
    reasons += [(node, "no reply in time") for node in entry.get("missing", [])]
    return [[str(entry["round"]), entry["kind"], str(node), why] for node, why in reasons]


def _settings(config: RunConfig) -> dict[str, Any]:
    values, defaults = config.to_flat(), RunConfig.from_flat({}).to_flat()
    return {
        "settings": [[key, str(value), str(defaults[key])] for key, value in values.items()],
        "changed": [n for n, (key, value) in enumerate(values.items()) if value != defaults[key]],
    }


def _floors(
    data: Path, config: RunConfig, part: Literal["valid", "test"]
) -> tuple[Floors | None, str]:
    try:
        dataset = load_dataset(data, config.times_read)
        return floors(dataset, holdout=config.data.holdout, part=part), ""
    except ValueError as error:
        return None, str(error)
