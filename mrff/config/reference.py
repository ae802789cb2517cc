"""What is written from the declarations: pyproject's table, docs/settings.md, rows to print."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path

from mrff.config.declaration import ConfigError, Setting, Value
from mrff.config.names import GROUPS, SETTINGS

COMMAND = "mrff settings --write"
BEGIN = f"# Settings, written by `{COMMAND}` from the declarations in mrff/config.\n"
END = "# End of the settings.\n"
PAGE = Path("docs", "settings.md")


def matching(search: str = "") -> list[Setting]:
    """The settings whose name or reason holds every word of ``search``, in either case."""
    words = search.lower().split()
    return [s for s in SETTINGS.values() if all(w in f"{s.key} {s.reason}".lower() for w in words)]


def row(setting: Setting) -> dict[str, Value]:
    """A setting by column: what `mrff settings` shows and ``--json`` prints."""
    return {
        "key": setting.key,
        "default": setting.default,
        "limits": setting.accepted,
        "reason": setting.reason,
    }


def project_table() -> str:
    """Flower's table of defaults, one TOML table per group, between its two marks."""
    tables = []
    for group, title, settings in _groups():
        lines = [f"# {title}", f"[tool.flwr.app.config.{group}]"]
        for s in settings:
            line = f"{s.leaf} = {json.dumps(s.default)}"
            fits = len(line) + len(s.reason) <= 96
            lines += [f"{line}  # {s.reason}"] if fits else [f"# {s.reason}", line]
        tables.append("\n".join(lines) + "\n")
    return BEGIN + "\n".join(tables) + END


def page() -> str:
    """docs/settings.md."""
    parts = [_OPENING]
    for group, title, settings in _groups():
        parts += [f"## {group}\n\n{title}\n", "\n".join(map(_item, settings)) + "\n"]
    return "\n".join(parts)


def written(root: Path) -> dict[Path, str]:
    """The files below ``root`` that come from the declarations, with what they should hold.

    Raises:
        ConfigError: pyproject.toml lacks the marks between which the table stands.
    """
    project = root / "pyproject.toml"
    before, begin, rest = project.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ConfigError(f"{project} has no lines {BEGIN.strip()!r} and {END.strip()!r}")
    return {project: before + project_table() + after, root / PAGE: page()}


def write(root: Path) -> list[Path]:
    """Writes those files; returns the ones that were not up to date."""
    changed = []
    for path, text in written(root).items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


_OPENING = f"""# Settings

This page is written by `{COMMAND}`; `mrff settings WORD` searches the same list.

| where | how a setting is named |
|---|---|
| `flwr run . --run-config "network.num-experts=8 network.dropout=0.3"` | in full |
| `mrff run -c num-experts=8 -c dropout=0.3` | the last part alone will do: it is unique |
| a TOML file (`--config`, `--run-config FILE.toml`) | as a table per group, as in `conf/` |

Flower keeps only the last of several `--run-config` options of one group: put them into one.
Texts in it are quoted: `--run-config 'privacy.mode="central-user"'`. In brackets is what a setting
accepts; `auto`, `all` and `off` are texts. A resumed run may change those marked *free*. Those
marked *fitted* [follow from the data](tuning.md#settings-that-fit) where they are left at `auto`.
`mrff run` takes from the run what is not given anew; to `flwr run` the same settings are given.
"""


def _item(setting: Setting) -> str:
    fits = f"*fitted*, else {json.dumps(setting.plain)}" if setting.fitted else ""
    notes = "; ".join(filter(None, (setting.accepted, fits, "*free*" if setting.free else "")))
    told = f"- `{setting.key} = {json.dumps(setting.default)}`"
    told += f" ({notes})" if notes else ""
    return textwrap.fill(
        f"{told}: {setting.reason}", 100, subsequent_indent="  ", break_on_hyphens=False
    )


def _groups() -> Iterator[tuple[str, str, list[Setting]]]:
    """Each group with the first line of its class, and its settings."""
    for group, settings in GROUPS.items():
        title = (inspect.getdoc(settings) or "").partition("\n")[0].replace("``", "`")
        yield group, title, [s for s in SETTINGS.values() if s.group == group]
