"""``mrff``: the command line. Every error is one line on stderr and a non-zero exit status."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence

import click
import typer

from mrff.cli import (
    compare,
    data,
    deploy,
    doctor,
    new,
    privacy,
    recommend,
    results,
    run,
    serve,
    tune,
)
from mrff.io.printing import escape_unprintable
from mrff.ops.processes import Terminated, termination_interrupts

COMMANDS: tuple[tuple[str, Callable[..., None] | typer.Typer], ...] = (
    ("doctor", doctor.doctor),
    ("new", new.new),
    ("data", data.commands),
    ("run", run.run),
    ("demo", run.demo),
    ("settings", run.settings),
    ("tune", tune.tune),
    ("deploy", deploy.commands),
    ("privacy", privacy.commands),
    ("compare", compare.compare),
    ("report", results.report),
    ("recommend", recommend.recommend),
    ("serve", serve.serve),
    ("export", results.export),
    ("backup", deploy.backup),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 for what the user can mend, 130 or 143 when interrupted."""
    escape_unprintable()
    commands = command_group()
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["compare"]:
        words = compare.spread(words)  # typer knows no option that takes several words
    if "_MRFF_COMPLETE" in os.environ:
        commands(prog_name="mrff")  # the shell asks how a word goes on; this call does not return
    try:
        with termination_interrupts(), commands.make_context("mrff", words) as context:
            commands.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        print(f"mrff: {_explained(error)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, head for one, has seen enough
        sys.stderr.close()
    except (ValueError, OSError) as error:
        print(f"mrff: {error}", file=sys.stderr)
        return 2
    except Terminated:
        print("mrff: terminated", file=sys.stderr)
        return 128 + signal.SIGTERM
    except KeyboardInterrupt:
        print("mrff: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


def command_group() -> click.Group:
    """All commands, in the order in which help shows them."""
    app = typer.Typer(help="Federated recommendation (MRFF).", rich_markup_mode="rich")
    for name, command in COMMANDS:
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    group.commands = {name: group.commands[name] for name, _ in COMMANDS}  # typer puts groups last
    return group


def _explained(error: click.ClickException) -> str:
    """What is wrong with the words of a command, and where its words are listed."""
    # Both typer and newer versions of click add the nearest command.
    found = error.message if "Did you mean" in error.message else error.format_message()
    message = " ".join(found.split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message}; see: {context.command_path if context else 'mrff'} --help"


if __name__ == "__main__":
    sys.exit(main())
