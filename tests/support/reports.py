"""Report pages taken apart again, and the files of a small comparison."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from mrff.cli.main import main

RESULTS = """\
dataset,method,seed,auc,log_loss,gauc,hr10,ndcg10,best_round,seconds,bytes_up,bytes_down,status,error,kind,run
films,mrff,0,0.75,0.61,,,,10,93.4,22,36,finished,,mrff,runs/a
films,mrff,1,0.77,0.60,,,,12,97.9,25,36,finished,,mrff,runs/b
films,fedadam,0,0.74,0.62,,,,10,77.4,21,28,finished,,baseline,runs/c
films,fedadam,1,0.73,0.63,,,,10,67.9,21,28,finished,,baseline,runs/d
films,one-group,0,0.76,0.60,,,,5,39.2,22,28,finished,,ablation,runs/e
films,one-group,1,,,,,,,,,,crashed,no memory,ablation,runs/f
shop,mrff,0,0.65,0.60,,,,7,9.0,1,1,finished,,mrff,runs/g
shop,fedadam,0,0.66,0.60,,,,7,9.0,1,1,finished,,baseline,runs/h
"""
COMPARISONS = """\
dataset,method,reference,metric,difference,low,high,p_value,p_holm,users,seeds,note
films,fedadam,mrff,auc,-0.025,-0.04,-0.01,0.001,0.004,943,2,
films,fedadam,mrff,log_loss,0.02,0.01,0.03,0.0002,0.001,943,2,
films,one-group,mrff,auc,0.001,-0.02,0.022,0.9,1.0,943,1,
films,one-group,mrff,log_loss,0.0,-0.02,0.02,0.95,1.0,943,1,
shop,fedadam,mrff,auc,0.01,,,,,30,1,too few users for a test: 30
shop,fedadam,mrff,log_loss,,,,,,0,0,too few users for a test: 30
"""


def write_comparison(folder: Path) -> Path:
    """The files of a comparison of three methods on two datasets, one run of it crashed."""
    folder.mkdir(parents=True)
    (folder / "results.csv").write_text(RESULTS)
    (folder / "comparisons.csv").write_text(COMPARISONS)
    about = {"reference": "mrff", "confidence": 0.9, "significance": 0.01, "seeds": [0, 1]}
    (folder / "comparison.json").write_text(json.dumps(about))
    return folder


def report(run: str, out: Path) -> str:
    """The page that ``mrff report`` writes."""
    assert main(["report", run, "--out", str(out)]) == 0
    return out.read_text()


def charts(page: str) -> dict[str, Any]:
    """Figures by the title above them."""
    text = re.search(r'<script id="figures" type="application/json">(.*?)</script>', page, re.S)
    assert text
    figures = json.loads(text[1])
    pairs = re.findall(r'<h3>([^<]*)</h3><div class="chart" id="([^"]*)"', page)
    return {title: figures[key] for title, key in pairs}


def numbers(values: Any) -> np.ndarray:
    """A plotly array, which may be packed."""
    if isinstance(values, dict):
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype=values["dtype"])
    return np.array(values, dtype=float)
