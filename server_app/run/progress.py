"""One line per round and per evaluation, for a log that is no terminal."""

from __future__ import annotations

from collections.abc import Sequence

from mrff.metrics import METRICS, shown
from mrff.wire.traffic import Rejection
from strategies.reports import EvaluationReport, GroupsChosen, RoundReport

SHOWN = 3  # rejected or missing nodes named per phase; the history has all of them


def round_line(report: RoundReport, *, rounds: int, seconds_left: float) -> str:
    """``round 12/100  loss 0.6123  users 189 ...``."""
    traffic = report.traffic
    return "  ".join(
        [
            f"round {report.round}/{rounds}",
            f"loss {_number(report.train_loss)}",
            f"users {report.users}",
            f"load entropy {_number(report.load_entropy, 2)}",
            f"churn {_number(report.churn, 2)}",
            f"down {megabytes(traffic.bytes_down)}",
            f"up {megabytes(traffic.bytes_up)}",
            f"{traffic.seconds:.1f} s",
            f"left {duration(seconds_left)}",
            *_privacy(report),
        ]
    )


def evaluation_line(report: EvaluationReport, *, is_best: bool) -> str:
    """``round 15 validation  auc 0.7712 ...``."""
    name = "test" if report.split == "test" else "validation"
    best = "  (best so far)" if is_best and report.split != "test" else ""
    measured = "  ".join(
        f"{metric.name.replace('_', '')} {_number(report.measures[metric.name], metric.digits)}"
        for metric in shown(report.measures)
        if metric.brief
    )
    among = "" if report.drawn is None else f"  {among_drawn(report.drawn)}"
    return f"round {report.round} {name}  {measured}{among}  users {report.users}{best}"


def groups_line(chosen: GroupsChosen) -> str:
    """What validation said of groups, and what follows."""
    way = "groups stay" if chosen.kept else "one expert for all"
    label = METRICS[chosen.metric].label
    both = f"{_number(chosen.with_groups)} with groups, {_number(chosen.with_one)} without"
    return f"{way}: validation {label} {both}"


def among_drawn(items: int) -> str:
    """How ranks among drawn items are marked wherever they are shown: they compare nothing."""
    return f"among {items:,} drawn items, not all"


def rejection_lines(rejected: Sequence[Rejection], missing: Sequence[int]) -> list[str]:
    """What went wrong in a phase, the first few nodes by name."""
    lines = [f"reply of node {r.node} rejected: {r.reason}" for r in rejected[:SHOWN]]
    if len(rejected) > SHOWN:
        lines.append(f"and {len(rejected) - SHOWN} more rejected replies, see the history")
    if missing:
        named = ", ".join(str(node) for node in missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        lines.append(f"no reply in time from node {named}{more}")
    return lines


def megabytes(count: int) -> str:
    """``1.2 MB``."""
    return f"{count / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _privacy(report: RoundReport) -> list[str]:
    if report.privacy is None:
        return []
    names = {"signal_to_noise": "signal/noise", "clipped_share": "clipped", "epsilon": "epsilon"}
    known = [f"{shown} {_number(report.privacy[name], 2)}" for name, shown in names.items()]
    return [*known, *(["NOT PRIVATE"] if "predictable_noise" in report.privacy else [])]


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
