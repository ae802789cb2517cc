"""Pages of the site that are made of the code: commands and their options, packages and modules."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import click
from typer.cli import get_docs_for_click

from mrff.cli.main import command_group

# What others build on or add to. Commands have a page of their own.
PACKAGES = (
    "mrff_model", "strategies", "client_app", "server_app", "mrff.algorithms", "mrff.config",
    "mrff.data", "mrff.io", "mrff.linear", "mrff.metrics", "mrff.ops", "mrff.privacy",
    "mrff.serving", "mrff.sums", "mrff.wire",
)  # fmt: skip


def write_pages(folder: Path) -> None:
    """Writes ``cli.md`` and a page for each package; a page that is right already stays."""
    pages = {f"{package}.rst": _package_page(package) for package in PACKAGES}
    pages["cli.md"] = _commands_page()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        if stale.name not in pages:
            stale.unlink()
    for name, text in pages.items():
        file = folder / name
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def _commands_page() -> str:
    """Typer's own description of all commands."""
    group = command_group()
    text = get_docs_for_click(obj=group, ctx=click.Context(group, info_name="mrff"), name="mrff")
    lines = text.splitlines()[1:]  # its heading is the command's name
    return "\n".join(["# Commands", *lines, ""])


def _package_page(package: str) -> str:
    """The package's modules, those of packages within it too, one below the other."""
    blocks = [_heading(package, "="), _module(package)]
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        blocks += [_heading(module.name, "-"), _module(module.name)]
    return "\n".join(blocks)


def _heading(name: str, line: str) -> str:
    return f"{name}\n{line * len(name)}\n"


def _module(name: str) -> str:
    return f".. automodule:: {name}\n"
