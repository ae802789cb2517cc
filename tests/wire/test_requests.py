"""Requests as both ends read them, and those that a node refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from mrff.wire.records import array_record
from mrff.wire.requests import (
    VERSION,
    Arrays,
    EarlierRun,
    Request,
    RequestError,
    RoundFacts,
    RunFacts,
)

whole, texts = st.integers(0, 2**40), st.text(max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
arrays = st.dictionaries(
    st.text("abc.", min_size=1, max_size=8),
    npst.arrays(np.float32, npst.array_shapes(min_dims=0, max_dims=2, max_side=3)),
    max_size=3,
)
all_facts = st.builds(
    RoundFacts,
    round=whole,
    epoch_starts=st.lists(whole, min_size=1, max_size=4),
    checkpoint_round=whole,
    best_round=whole,
    loads=st.lists(finite, max_size=6),
    terms=st.dictionaries(st.text("abc-_.", min_size=1, max_size=8), finite, max_size=3),
    part=st.sampled_from(["", "valid", "test"]),
)
requests = st.builds(
    Request, st.builds(RunFacts, texts, texts, texts, texts), all_facts, arrays, arrays
)


@given(requests)
def test_what_is_read_is_what_was_sent(request: Request) -> None:
    data = recorddict_to_proto(request.content()).SerializeToString()
    read = Request.read(recorddict_from_proto(ProtoRecordDict.FromString(data)))
    assert read.run == request.run
    assert read.facts == request.facts
    assert_same(read.public, request.public)
    assert_same(read.group, request.group)


def assert_same(ours: Arrays, theirs: Arrays) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape)
        assert ours[name].tobytes() == array.tobytes()


def some_content() -> RecordDict:
    public, group = {"w": np.ones(2, np.float32)}, {"layers.0.experts.0.b": np.ones(1, np.float32)}
    return Request(RunFacts("hash", "run"), RoundFacts(round=3), public, group).content()


def test_the_run_facts_are_what_flowers_strategies_take_as_settings() -> None:
    facts = RunFacts("hash", "run", "/data", "/state")
    assert RunFacts.of(facts.record()) == facts
    assert RunFacts.of(ConfigRecord()) == RunFacts()


def without(record: str) -> Callable[[RecordDict], Any]:
    return lambda content: content.pop(record)


def says(**values: Any) -> Callable[[RecordDict], Any]:
    return lambda content: content["round"].update(values)


def lacks(name: str) -> Callable[[RecordDict], Any]:
    return lambda content: content["round"].pop(name)


def model(record: ArrayRecord | ConfigRecord) -> Callable[[RecordDict], Any]:
    return lambda content: content.update(public=record)


BAD_REQUESTS: dict[str, tuple[Callable[[RecordDict], Any], str]] = {
    "a later version": (says(version=VERSION + 1), f"version {VERSION + 1}, this node reads"),
    "no version": (lacks("version"), f"version None, this node reads {VERSION}"),
    "no round": (without("round"), "cannot be read .*is the server of the same version"),
    "no run": (without("run"), "cannot be read .*is the server of the same version"),
    "no public arrays": (without("public"), "'public' must hold the packed array 'arrays' alone"),
    "no group arrays": (without("group"), "'group' must hold the packed array 'arrays' alone"),
    "arrays one by one": (
        model(array_record({"w": np.ones(2, np.float32)})),
        "'public' must hold the packed array",
    ),
    "no arrays": (model(ConfigRecord({"w": 1.0})), "'public' must hold the packed array"),
    "no number of the round": (lacks("round"), "cannot be read .'round'"),
    "no loads": (lacks("loads"), "cannot be read .'loads'"),
    "another part": (says(part="train"), "part must be valid or test, got 'train'"),
    "a round in words": (says(round="three"), "round must be a whole number, got 'three'"),
    "loads as one number": (says(loads=3.0), "loads must be a list of numbers, got 3.0"),
    "a term that is no number": (says(**{"terms.clip": "much"}), "cannot be read"),
}


@pytest.mark.parametrize(("change", "reason"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_request_that_cannot_be_read_is_one_clear_error(
    change: Callable[[RecordDict], Any], reason: str
) -> None:
    content = some_content()
    change(content)
    with pytest.raises(RequestError, match=reason) as caught:
        Request.read(content)
    assert "\n" not in str(caught.value)


def test_an_earlier_run_travels_as_text() -> None:
    run = EarlierRun("week-1", 30, (0, 10))
    assert EarlierRun.of(run.text) == run
    facts = RunFacts("hash", "week-2", lineage=[run.text])
    assert RunFacts.of(facts.record()).earlier_runs == [run]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1, 2]", '["a"]', '["../a", 1]', '["..", 1]', '["a/b", 1]', '["a", "1"]',
     '["a", 1, 2.5]', '["a", true]', '["", 1]'],
)  # fmt: skip
def test_a_server_names_no_other_folder_as_an_earlier_run(text: str) -> None:
    with pytest.raises(RequestError, match="an earlier run must be a name and its rounds"):
        EarlierRun.of(text)
