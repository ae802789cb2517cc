"""Events without labels as a shop or a player logs them: who took what, again and again."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
_HERE = re.compile(r"^cat > plays\.toml <<'END'\n(.*?)^END\n", re.DOTALL | re.MULTILINE)


def plays(folder: Path, *, users: int = 120, songs: int = 30, seed: int = 0) -> Path:
    """Listeners who mostly go on from a song to the one after it, and play a third of them again.

    Returns:
        The TOML that describes them, as the documentation has it.
    """
    random = np.random.default_rng(seed)
    lines = ["listener,song,when"]
    for user in range(users):
        song = int(random.integers(songs))
        for time in range(int(random.integers(12, 30))):
            lines.append(f"u{user},s{song},{time}")
            if random.random() < 0.65:
                song = (song + 1) % songs
            elif random.random() < 0.05:
                song = int(random.integers(songs))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plays.csv").write_text("\n".join(lines) + "\n")
    (described,) = _HERE.findall(DOCS.read_text())
    (folder / "plays.toml").write_text(described)
    return folder / "plays.toml"
