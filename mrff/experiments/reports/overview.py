"""What came out of a run, in one sentence: against floors and against its simpler rivals."""

from __future__ import annotations

from collections.abc import Mapping

from mrff.experiments.comparison.bootstrap import Difference
from mrff.experiments.comparison.measures import TESTED
from mrff.experiments.reports.activity import LISTS, Fare
from mrff.experiments.reports.figures import Entry

UNKNOWN = Difference()


def verdict(test: Entry | None, floors: Mapping[str, float], fares: Mapping[str, Fare]) -> str:
    """The sentence.

    Args:
        floors: AUC of each, on the test's targets, by name.
        fares: intervals, where users' own scores are at hand.
    """
    if test is None:
        return "Nothing was tested yet."
    parts = test.get("parts", {})
    lists = {told: parts[name]["hr10"] for name, told in LISTS.items() if name in parts}
    found = [
        _against(name, value, rivals, fares.get(name))
        for name, rivals in (("auc", floors), ("hr10", lists))
        if (value := test.get(name)) is not None
    ]
    if not found:
        return "The test measured nothing that can be compared."
    return f"On {test['targets']:,} held-out rows, {'; '.join(found)}."


def _against(name: str, own: float, rivals: Mapping[str, float], fare: Fare | None) -> str:
    label = TESTED[name].label
    if not rivals:
        return f"{label} is {own:.4f}, and this run knows nothing to compare it with"
    best = max(rivals, key=lambda rival: rivals[rival])
    gain = UNKNOWN if fare is None else fare.gains.get(best, UNKNOWN)
    among = f"the best of {len(rivals)} simpler methods ({best}, {rivals[best]:.4f})"
    difference = own - rivals[best]
    if gain.low != gain.low:  # no interval
        how = "above" if difference > 0 else "not above"
        return f"{label} is {own:.4f}, {how} {among} by {difference:+.4f}"
    how = "beats" if gain.low > 0 else "loses to" if gain.high < 0 else "cannot be told from"
    interval = f"95 % interval {gain.low:+.4f} to {gain.high:+.4f}"
    return f"{label} {own:.4f} {how} {among}: {difference:+.4f}, {interval}"
