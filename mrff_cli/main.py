"""``mrff``: the command line. Every error is one line on stderr and a non-zero exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mrff_cli import (
    data_commands,
    demo_command,
    deploy_commands,
    export_command,
    recommend_command,
    report_command,
    run_command,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns 0, 2 for what the user can mend, 130 when interrupted."""
    parser = argparse.ArgumentParser(prog="mrff", description="Federated recommendation (MRFF)")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (
        data_commands,
        run_command,
        demo_command,
        deploy_commands,
        recommend_command,
        export_command,
        report_command,
    ):
        command.add_parser(subparsers)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.handler(chosen)
    except BrokenPipeError:  # the reader, head for one, has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, OSError) as error:
        print(f"mrff: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mrff: interrupted", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
