"""What a new thing costs: its file and its line in a registry, shown by adding one of each.

The packages are copied; to the copy a backbone, a head, a privacy mechanism, a metric, a recipe, an
algorithm, a method and a setting are added; then runs with all of them go through the in-process
grid of the copy. Nothing else of the copy is touched.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("client_app", "server_app", "strategies", "mrff_model", "mrff", "tests/support")

FILES = {
    "mrff_model/backbones/running_mean.py": """
        import torch
        from torch import Tensor, nn


        class RunningMean(nn.Module):
            def __init__(self, dim: int, num_heads: int, max_length: int) -> None:
                super().__init__()
                self.out = nn.Linear(dim, dim)

            def forward(self, x: Tensor) -> Tensor:
                counts = torch.arange(1, x.shape[1] + 1, device=x.device).view(1, -1, 1)
                return self.out(x.cumsum(1) / counts)

            def floats_per_position(self, length: int) -> int:
                return 2 * self.out.in_features
        """,
    "mrff_model/heads/shifted.py": """
        import torch
        from torch import nn

        from mrff_model.heads.mlp import MlpHead


        class ShiftedHead(MlpHead):
            def __init__(self, sizes):
                super().__init__(sizes)
                self.shift = nn.Parameter(torch.zeros(1))

            def forward(self, seen, dropout):
                return super().forward(seen, dropout) + self.shift
        """,
    "mrff/privacy/mechanisms/halved.py": """
        from mrff.privacy.mechanisms.none import NoMechanism, PlainClient


        class HalvedClient(PlainClient):
            def release_node(self, sums, admitted):
                released = super().release_node(sums, admitted)
                halves = {name: value * 0.5 for name, value in released.updates.items()}
                return type(released)(halves, released.numbers)


        class Halved(NoMechanism):
            name = "halved"

            def client(self, view):
                return HalvedClient(view)
        """,
    "mrff/metrics/accuracy.py": """
        import numpy as np

        from mrff.metrics.metric import Metric, Statistic, ratio
        from mrff.sums import Quantity

        HITS = Statistic(
            lambda scored, grain: {
                "hits": int(((scored.logits > 0) == (scored.labels > 0.5)).sum())
            },
            lambda grain: {"hits": Quantity(whole=True)},
            lambda grain: float(grain.holdout),
        )
        ACCURACY = Metric(
            "accuracy", "accuracy", HITS, lambda s: ratio(s.number("hits"), s.number("targets")),
            "higher",
        )
        UNBOUNDED = Metric(
            "unbounded", "unbounded",
            Statistic(HITS.compute, HITS.quantities, lambda grain: None), lambda s: 0.0,
        )
        """,
    "mrff/data/recipes/tiny.py": """
        from mrff.data.recipes.synthetic import Synthetic


        class Tiny(Synthetic):
            name = "tiny"

            def build(self, source, options, staging, progress):
                options = {"users": 15, "items": 20, "events_per_user": 24, **options}
                return super().build(source, options, staging, progress)
        """,
    "mrff/algorithms/mirrored.py": """
        from mrff.algorithms.base import Algorithm


        class Mirrored(Algorithm):
            name = "mirrored"

            def learner(self, learner, config):
                print("client half at work")
                return learner

            def first_model(self, config, build):
                public, group = super().first_model(config, build)
                return {name: -array for name, array in public.items()}, group
        """,
}
# Registry, a line of it, what is put before that line: an import, and the one entry.
LINES = [
    ("mrff_model/backbones/__init__.py",
     "from mrff_model.backbones.running_mean import RunningMean",
     '    "hstu": PointwiseAttention,', '    "mean": RunningMean,'),
    ("mrff_model/heads/__init__.py",
     "from mrff_model.heads.shifted import ShiftedHead",
     '    "linear": LinearHead,', '    "shifted": ShiftedHead,'),
    ("mrff/privacy/mechanisms/__init__.py",
     "from mrff.privacy.mechanisms.halved import Halved",
     "MECHANISMS: dict", ""),
    ("mrff/metrics/__init__.py",
     "from mrff.metrics.accuracy import ACCURACY, UNBOUNDED",
     "METRICS: dict", ""),
    ("mrff/data/recipes/__init__.py",
     "from mrff.data.recipes.tiny import Tiny",
     "        Synthetic(),", "        Tiny(),"),
    ("mrff/algorithms/__init__.py",
     "from mrff.algorithms.mirrored import Mirrored",
     "ALGORITHMS: dict", ""),
    ("mrff/config/methods.py", "",
     '    "local-only": (',
     '    "mirrored-mean": ("", {"algorithm": "mirrored", "backbone": "mean",'
     ' "head": "shifted"}),'),
]  # fmt: skip
ENTRIES = [
    ("mrff/privacy/mechanisms/__init__.py", "(NoMechanism(), ", "(NoMechanism(), Halved(), "),
    ("mrff/metrics/__init__.py", "in (AUC, ", "in (ACCURACY, AUC, "),
    ("mrff/algorithms/__init__.py", "(Algorithm(), ", "(Algorithm(), Mirrored(), "),
    # a setting: one declaration, one use
    ("mrff/config/settings.py",
     "    local_steps: int = setting(",
     '    update_scale: float = setting(1.0, "of a user\'s update", Limits(above=0.0))\n'
     "    local_steps: int = setting("),
    ("client_app/learners/one_step.py",
     "weights * -training.local_learning_rate",
     "weights * -training.local_learning_rate * training.update_scale"),
]  # fmt: skip
SCRIPT = """
import json, sys
from pathlib import Path

from mrff.config.methods import overrides_of
from mrff.data.prepare import prepare
from mrff.metrics import METRICS, evaluation_of
from mrff.metrics.accuracy import UNBOUNDED
from tests.support.federation import run_federation, shared_arrays

home = Path(sys.argv[1])
prepare("tiny", out=home / "tiny")
told = {}
for name, changes in {
    "plain": {},
    "scaled": {"update_scale": 2.0},
    "halved": {"mode": "halved"},
    "all": {"mode": "halved", "select_best_by": "accuracy", "update_scale": 0.5,
            **{key.rpartition(".")[2].replace("-", "_"): value
               for key, value in overrides_of("mirrored-mean").items()}},
}.items():
    changes = {"server_optimizer": "average", "server_learning_rate": 1.0, **changes}
    run_federation(home / "tiny", home, nodes=2, name=name, **changes)
    summary = json.loads((home / "runs" / name / "summary.json").read_text())
    moved = {n: float(a.astype("float64").sum()) for n, a in shared_arrays(home, name).items()}
    told[name] = {"test": summary["test"], "best_by": summary["best_by"],
                  "validation": summary.get("validation_accuracy"), "arrays": moved}
METRICS["unbounded"] = UNBOUNDED
config = __import__("mrff.config", fromlist=["RunConfig"]).RunConfig.from_flat({})
told["asked"] = {
    str(private): [metric.name for metric in evaluation_of(config, private=private).metrics]
    for private in (False, True)
}
print("TOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    copy = tmp_path_factory.mktemp("house")
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "tests/__init__.py").touch()
    for name, content in FILES.items():
        lines = content.splitlines()
        (copy / name).write_text("\n".join(line[8:] for line in lines[1:]) + "\n")
    for name, imported, before, line in LINES:
        put_before(copy / name, before, line)
        put_before(
            copy / name, "from __future__ import" if "methods" in name else "from ", imported
        )
    for name, old, new in ENTRIES:
        text = (copy / name).read_text()
        assert text.count(old) == 1, f"{name} has {old!r} {text.count(old)} times"
        (copy / name).write_text(text.replace(old, new))
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(copy / "home")], cwd=copy, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "client half at work" in done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    content: dict[str, dict[str, object]] = json.loads(line[5:])
    return content


def put_before(path: Path, before: str, line: str) -> None:
    """Adds a line before the first one that begins with ``before`` (imports: the last of them)."""
    if not line:
        return
    lines = path.read_text().splitlines()
    places = [n for n, text in enumerate(lines) if text.startswith(before)]
    assert places, f"{path} has no line that begins with {before!r}"
    lines.insert(places[-1 if before == "from " else 0], line)
    path.write_text("\n".join(lines) + "\n")


def test_a_new_metric_is_in_the_summary_and_chooses_the_best_model(told: dict) -> None:
    for name in ("plain", "scaled", "halved", "all"):
        assert 0.0 <= told[name]["test"]["accuracy"] <= 1.0
    assert told["plain"]["best_by"] == "auc"
    assert told["all"]["best_by"] == "accuracy"
    assert told["all"]["validation"] is not None


def test_a_new_mechanism_and_a_new_setting_change_what_is_trained(told: dict) -> None:
    arrays = {name: told[name]["arrays"] for name in ("plain", "scaled", "halved")}
    assert arrays["plain"] != arrays["halved"] != arrays["scaled"] != arrays["plain"]


def test_a_new_method_has_both_halves_a_new_backbone_and_a_new_head(told: dict) -> None:
    assert "layers.0.attention.out.weight" in told["all"]["arrays"]
    assert "layers.0.attention.query.weight" not in told["all"]["arrays"]
    assert told["all"]["arrays"]["head.shift"] != 0.0


def test_private_modes_do_without_a_metric_that_has_no_bound(told: dict) -> None:
    assert "unbounded" in told["asked"]["False"]
    assert "unbounded" not in told["asked"]["True"]
    assert {"auc", "accuracy"} <= set(told["asked"]["True"])
