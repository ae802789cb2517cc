"""How fast does ``mrff serve`` answer? Requests at a steady rate, whatever the answers before did.

    python benchmarks/serve_latency.py --items 1700 70000 --rate 50 --seconds 60

Per size of catalogue and objective: made-up data, a short run, the real process over HTTP. Asked
are known users, one after another; latency counts from when a request was due, so that a server
that falls behind is seen to.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for the tests' federation

from measuring import read_options, show

from mrff.data.prepare import prepare
from tests.support.federation import run_federation

USERS = 500


def main() -> None:
    """Prints a column per catalogue and objective."""
    options = read_options(
        __doc__,
        "json",
        items={"type": int, "nargs": "+", "default": [1700, 70_000]},
        objectives={"nargs": "+", "default": ["next", "click"], "choices": ["next", "click"]},
        rate=50,
        seconds=60,
    )
    rows = []
    for items in options.items:
        with tempfile.TemporaryDirectory() as temporary:
            home = Path(temporary)
            made = {"users": USERS, "items": items, "events_per_user": 80}
            prepare("synthetic", out=home / "data", options=made)
            for objective in options.objectives:
                run_federation(
                    home / "data", home, nodes=1, name=objective, objective=objective,
                    feature_dim="auto", window_length=65, num_server_rounds=1, evaluate_every=1,
                    sampling_rate=0.1,
                )  # fmt: skip
                found = measure(home, objective, options.rate, options.seconds)
                rows.append({"items": items, "objective": objective, **found})
    show(rows, options.json)


def measure(home: Path, run: str, rate: int, seconds: int) -> dict[str, Any]:
    """Milliseconds from due to answered, and what was no answer."""
    command = [sys.executable, "-m", "mrff.cli.main", "serve", run, "--port", "0"]
    environment = {**os.environ, "MRFF_HOME": str(home)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(4))
        found = re.search(r"page: +(\S+)/#token=(\S+)", told)
        assert found, told
        try:
            taken, errors = asyncio.run(ask(found[1], found[2], rate, seconds))
        finally:
            process.terminate()
    p50, p99, worst = (1e3 * np.quantile(taken, share) for share in (0.5, 0.99, 1.0))
    return {
        "requests": len(taken), "errors": errors, "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1), "worst_ms": round(worst, 1),
    }  # fmt: skip


async def ask(address: str, token: str, rate: int, seconds: int) -> tuple[list[float], int]:
    """Seconds of every request, and how many were not answered with a list."""
    headers = {"Authorization": f"Bearer {token}"}
    taken: list[float] = []
    errors = 0
    async with httpx.AsyncClient(
        base_url=address, headers=headers, trust_env=False, timeout=30.0
    ) as client:
        users = (await client.get(f"/v1/users?limit={USERS}")).json()

        async def one(user: str, due: float) -> None:
            nonlocal errors
            answer = await client.get(f"/v1/users/{user}/recommendations?top=10")
            taken.append(time.perf_counter() - due)
            errors += answer.status_code != 200 or len(answer.json()["items"]) != 10

        for user in users[:20]:
            await one(user, time.perf_counter())  # the first answers load what comes late
        taken.clear()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as asked:
            for number in range(rate * seconds):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                asked.create_task(one(users[number % len(users)], due))
    return taken, errors


if __name__ == "__main__":
    main()
