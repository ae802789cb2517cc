"""The page of one run: what came out, how it got there, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mrff.config import RunConfig
from mrff.data.dataset import load_dataset
from mrff.data.floors import Floors, floors
from mrff.experiments.reports import curves
from mrff.experiments.reports.group_section import add_groups, read_picture
from mrff.experiments.reports.page import Page
from mrff.ops.trained_run import (
    find_run,
    load_config,
    load_history,
    load_summary,
)
from server_app.run.progress import duration, megabytes

SHOWN_REJECTIONS = 40


@dataclass(frozen=True)
class _Run:
    """All that the page is made of."""

    name: str
    history: list[dict[str, Any]]
    summary: dict[str, Any] | None
    config: dict[str, Any]

    @property
    def settings(self) -> RunConfig:
        return RunConfig.from_flat(self.config)

    @property
    def rounds(self) -> list[Mapping[str, Any]]:
        return curves.of_kind(self.history, "round")

    @property
    def test(self) -> Mapping[str, Any] | None:
        tests = curves.of_kind(self.history, "test")
        return tests[-1] if tests else None


def run_page(
    run: str, *, data_dir: Path | None, state_dir: Path | None, public: bool = False
) -> Page:
    """Reads the run and draws its page.

    Args:
        public: leave out what is drawn from the nodes' private state.

    Raises:
        RunError: there is no such run, it has no history, or a file is damaged.
    """
    folder = find_run(run)
    about = _Run(folder.name, load_history(folder), load_summary(folder), load_config(folder))
    data = (data_dir or about.settings.dataset_path).expanduser().absolute()
    valid, why_not = _floors(data, about.settings.data.holdout, "valid")
    page = Page(f"MRFF run {about.name}", _lead(about))
    _tiles(page, about)
    _quality(page, about, data, valid, why_not)
    picture = (None, "--public") if public else read_picture(run, data_dir, state_dir)
    add_groups(page, about.history, *picture)
    _privacy(page, about)
    _cost(page, about)
    _trouble(page, about)
    _configuration(page, about)
    return page


def _lead(about: _Run) -> str:
    settings = about.settings
    done = about.rounds[-1]["round"] if about.rounds else 0
    state = "finished" if about.summary else "not finished"
    return (
        f"{settings.data.dataset}, tested on each user's last {settings.data.holdout}, "
        f"backbone {settings.network.backbone}, {done} of "
        f"{settings.server.num_server_rounds} rounds, seed {settings.training.seed}, {state}"
    )


def _tiles(page: Page, about: _Run) -> None:
    test, best = about.test, curves.best_round(about.history)
    tiles = []
    if test is not None:
        remark = f"test, {test['targets']:,} targets of {test['users']:,} users"
        tiles += [
            ("AUC", _number(test["auc"]), remark),
            ("LogLoss", _number(test["log_loss"]), "test, natural logarithm"),
            ("calibration error", _number(test["calibration_error"]), "test"),
        ]
    rounds = about.rounds[-1]["round"] if about.rounds else 0
    tiles.append(("best round", "–" if best is None else str(best), f"of {rounds}, by validation"))
    down, up = (sum(e.get(f"bytes_{way}", 0) for e in about.history) for way in ("down", "up"))
    tiles.append(("sent", megabytes(down + up), f"{megabytes(down)} down, {megabytes(up)} up"))
    seconds = sum(entry.get("seconds", 0.0) for entry in about.history)
    tiles.append(("time in phases", duration(seconds), "training, validation, test"))
    page.tiles(tiles)


def _quality(page: Page, about: _Run, data: Path, valid: Floors | None, why_not: str) -> None:
    page.section("Quality")
    if curves.of_kind(about.history, "validation"):
        for measure, title in (("auc", "AUC over rounds"), ("log_loss", "LogLoss over rounds")):
            page.chart(
                curves.quality_figure(about.history, measure, valid),
                title=title,
                caption="validation of the whole model; dashed: floors on the same targets, "
                "counted from everybody's pooled data; dotted line: best round",
            )
    else:
        page.text("No validation yet.")
    if any(entry.get("train_loss") is not None for entry in about.rounds):
        page.chart(
            curves.loss_figure(about.history),
            title="Training loss over rounds",
            caption="mean of the sampled users' first local step",
        )
    else:
        page.text("The training loss leaves no node in a private mode.")
    if valid is None:
        page.text(f"The floors are left out: {why_not}")
    if about.test is not None:
        test_floors, _ = _floors(data, about.settings.data.holdout, "test")
        rows = _floor_rows(test_floors)
        rows.append(
            ["MRFF", _number(about.test["auc"]), _number(about.test["log_loss"]),
             "sums of updates"]
        )  # fmt: skip
        page.table(("test", "AUC", "LogLoss", "sees"), rows, bold=[len(rows) - 1])


def _floor_rows(test: Floors | None) -> list[list[str]]:
    rows = []
    for field, name in curves.FLOOR_NAMES.items():
        floor = getattr(test, field, None)
        if floor is not None:
            rows.append([name, _number(floor.auc), _number(floor.log_loss), "pooled data"])
    return rows


def _privacy(page: Page, about: _Run) -> None:
    page.section("Privacy")
    privacy = about.settings.privacy
    if not privacy.is_private:
        page.text(
            "privacy-mode is none: user embeddings, user networks and biases never left the nodes, "
            "but there is no formal guarantee for the sums that did."
        )
        return
    page.text(
        f"Mode {privacy.privacy_mode}, unit {privacy.privacy_unit}, delta {privacy.delta:g}, "
        f"noise multiplier {privacy.noise_multiplier:g}. Measures of validation and test are "
        "outside the guarantee."
    )
    if not privacy.noise_is_secret:
        page.text("noise-seed is set, so the noise is predictable: NOT PRIVATE.")
    if any(value is not None for value in curves.privacy_column(about.rounds, "epsilon")):
        page.chart(
            curves.epsilon_figure(about.history, privacy.epsilon_budget),
            title="Privacy budget spent",
            caption=f"epsilon at delta {privacy.delta:g}, all runs on this data together",
        )
    else:
        page.text("The nodes keep their own ledgers in this mode: mrff privacy shows them there.")
    page.chart(
        curves.noise_figure(about.history),
        title="Signal against noise",
        caption="norm of the summed update over that of its noise, estimated from the noisy sum",
    )


def _cost(page: Page, about: _Run) -> None:
    page.section("Cost")
    page.chart(
        curves.bytes_figure(about.history),
        title="Bytes per round",
        caption="arrays and numbers of all nodes' messages, without Flower's envelopes",
    )
    first = about.rounds[0].get("seconds", 0.0) if about.rounds else 0.0
    page.chart(
        curves.seconds_figure(about.history),
        title="Seconds per round",
        caption=f"round 1 starts the engine as well and took {first:.1f} s",
    )


def _trouble(page: Page, about: _Run) -> None:
    page.section("Rejected and missing replies")
    rows = []
    for entry in about.history:
        place = [str(entry["round"]), entry["kind"]]
        for rejection in entry.get("rejected", []):
            rows.append([*place, str(rejection["node"]), rejection["reason"]])
        rows += [[*place, str(node), "no reply in time"] for node in entry.get("missing", [])]
    sent, dropped = (
        sum(entry.get(name, 0) for entry in about.history) for name in ("sent", "dropped_users")
    )
    if dropped:
        page.text(f"{dropped:,} local trainings gave no finite numbers and were left out.")
    if not rows:
        page.text(f"None of {sent:,} messages.")
        return
    more = f"; the first {SHOWN_REJECTIONS} are shown" if len(rows) > SHOWN_REJECTIONS else ""
    page.text(f"{len(rows):,} of {sent:,} messages{more}.")
    page.table(("round", "phase", "node", "reason"), rows[:SHOWN_REJECTIONS])


def _configuration(page: Page, about: _Run) -> None:
    page.section("Configuration")
    defaults = RunConfig.from_flat({}).to_flat()
    keys = list(about.settings.to_flat())
    changed = [n for n, key in enumerate(keys) if _value(about, key) != defaults[key]]
    page.text("Bold: other than the default of this version.")
    rows = [[key, str(_value(about, key)), str(defaults[key])] for key in keys]
    page.table(("setting", "value", "default"), rows, bold=changed, numbers=False)


def _value(about: _Run, key: str) -> Any:
    return about.settings.to_flat()[key]


def _floors(data: Path, holdout: int, part: Literal["valid", "test"]) -> tuple[Floors | None, str]:
    try:
        return floors(load_dataset(data), holdout=holdout, part=part), ""
    except ValueError as error:
        return None, str(error)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
