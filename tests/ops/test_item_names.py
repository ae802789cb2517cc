"""Items by title, part of a title, or id; commas between them and inside them."""

from __future__ import annotations

import pytest

from mrff.data.errors import DataError
from mrff.ops.item_names import ItemNames

ITEMS = [
    ("m1", "Matrix, The"),
    ("m2", "Alien"),
    ("m3", "Aliens"),
    ("m4", "Titanic"),
    ("m5", "Titanic"),
    ("m6", "m1"),  # a title that is another item's id
    ("Psycho (1960)", "Psycho"),  # an id one can read
    ("m8", "Matrix Reloaded, The"),
    ("aB", "Upper"),
    ("Ab", "Lower"),
]


@pytest.fixture
def names() -> ItemNames:
    ids, titles = zip(*ITEMS, strict=True)
    return ItemNames(["", *ids], ["", *titles])


@pytest.mark.parametrize(
    ("texts", "codes"),
    [
        (["Alien"], [2]),  # a title, though it is also a part of another
        (["alien, ALIENS"], [2, 3]),
        (["Alien", "Matrix, The"], [2, 1]),  # given often
        (["Matrix, The, Alien"], [1, 2]),  # a comma inside a title
        (["Alien,Matrix Reloaded, The , psy"], [2, 8, 7]),
        (["reloaded"], [8]),  # a part of one title only
        (["m3, id:m1, id: m4"], [3, 1, 4]),
        (["psycho (1960), id:PSYCHO (1960)"], [7, 7]),
        (["aB, Ab, id:Ab"], [9, 10, 10]),  # as written before without case
        (["Alien, , Alien,"], [2, 2]),
    ],
)
def test_what_is_meant(names: ItemNames, texts: list[str], codes: list[int]) -> None:
    assert names.items(texts).tolist() == codes


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([""], "the history is empty: name at least one item"),
        ([], "the history is empty"),
        ([" , "], "the history is empty"),
        (["Alein"], "no item has 'Alein' as its id or in its title; near it: Alien (id:m2)"),
        (["Matrix, Teh"], "'Matrix' may be Matrix, The (id:m1), Matrix Reloaded, The (id:m8)"),
        (["Titanic"], "'Titanic' may be Titanic (id:m4), Titanic (id:m5); write more of the title"),
        (["m1"], "'m1' may be Matrix, The (id:m1), m1 (id:m6)"),
        (["ab"], "'ab' may be Upper (id:aB), Lower (id:Ab)"),
        (["a"], " and 3 more; write more of the title, or id:"),
        (["id:alien"], "no item has the id 'alien'"),
        (["zzzzzzz"], "no item has 'zzzzzzz' as its id or in its title"),
    ],
)
def test_what_cannot_be_meant_is_one_line(names: ItemNames, texts: list[str], said: str) -> None:
    with pytest.raises(DataError) as error:
        names.items(texts)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mistake_inside_a_title_with_a_comma_is_told_the_whole_title(names: ItemNames) -> None:
    with pytest.raises(DataError, match=r"near it: Matrix Reloaded, The \(id:m8\)"):
        names.items(["Matrix Relaoded, The"])
