"""Event files for TensorBoard, written with its own small writer: no TensorFlow, no PyTorch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from strategies.reports import EvaluationReport, RoundReport


class EventFile:
    """One event file in ``folder``; a resumed run adds another, and TensorBoard joins them.

    Args:
        timed: see `History`; without, all events bear the time at which the file was opened.
    """

    def __init__(self, folder: Path, *, timed: bool = True) -> None:
        self._writer, self._timed = EventFileWriter(str(folder)), timed
        self._opened = time.time()

    def add_round(self, report: RoundReport) -> None:
        """Writes a training round's curves."""
        scalars = {
            "train/loss": report.train_loss,
            "train/users": report.users,
            "train/load entropy": report.load_entropy,
            "train/churn": report.churn,
            "traffic/rejected": len(report.traffic.rejected),
            "traffic/missing": len(report.traffic.missing),
        }
        if self._timed:
            scalars |= {
                "traffic/bytes down": report.traffic.bytes_down,
                "traffic/bytes up": report.traffic.bytes_up,
                "traffic/seconds": report.traffic.seconds,
            }
        for name, value in (report.privacy or {}).items():
            scalars[f"privacy/{name.replace('_', ' ')}"] = value
        for layer, shares in enumerate(report.loads):
            for expert, share in enumerate(shares):
                scalars[f"loads/layer {layer} expert {expert}"] = share
        self._add(report.round, scalars)

    def add_evaluation(self, report: EvaluationReport) -> None:
        """Writes the measures of a validation or the test."""
        scalars = {
            f"{report.split}/{name.replace('_', ' ')}": value
            for name, value in report.measures.items()
        }
        self._add(report.round, scalars)

    def close(self) -> None:
        """Writes out what is pending."""
        self._writer.close()

    def _add(self, step: int, scalars: Mapping[str, float | None]) -> None:
        values = [
            Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
            if value is not None
        ]
        wall_time = time.time() if self._timed else self._opened
        event = Event(wall_time=wall_time, step=step, summary=Summary(value=values))
        self._writer.add_event(event)
        self._writer.flush()
