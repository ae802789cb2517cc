"""Events without labels as a shop or a player logs them: who took what, again and again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

PLAYS = """name = "plays"

[interactions]
file = "plays.csv"
user = "listener"
item = "song"
time = "when"
"""


def plays(folder: Path, *, users: int = 120, songs: int = 30, seed: int = 0) -> Path:
    """Listeners who mostly go on from a song to the one after it, and play a third of them again.

    Returns:
        The TOML that describes them.
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
    (folder / "plays.toml").write_text(PLAYS)
    return folder / "plays.toml"
