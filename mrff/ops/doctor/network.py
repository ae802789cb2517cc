"""The network as this machine has it: ports that are free, proxies in between."""

from __future__ import annotations

import os
import socket
from urllib.request import getproxies_environment, proxy_bypass

from mrff.ops.control import LOOPBACK
from mrff.ops.doctor.finding import FAULT, OK, WARNING, Finding, Place
from mrff.ops.processes import free_port

SUPERLINK_PORT = 8000  # Flower's own


def ports(place: Place) -> Finding:
    """A simulation takes any free port, a SuperLink of a deployment a certain one."""
    try:
        free_port()
    except OSError as error:
        return Finding(
            FAULT,
            f"no port can be opened on the loopback ({error.strerror})",
            "let this user listen on 127.0.0.1: a simulation needs it",
        )
    port = place.superlink_port or SUPERLINK_PORT
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        wanted = place.superlink_port is not None
        return Finding(
            FAULT if wanted else WARNING,
            f"{port} cannot be opened ({os.strerror(error.errno or 0)}), a simulation takes any",
            f"end what listens on it, or start the SuperLink with --port; who: ss -ltnp | grep "
            f":{port}",
        )
    return Finding(OK, f"{port} is free for a SuperLink; a simulation takes any")


def proxies(place: Place) -> Finding:
    """Whether a proxy is asked for this machine itself, which it cannot reach."""
    names = ", ".join(f"{kind}_proxy" for kind in getproxies_environment() if kind != "no")
    if not names:
        return Finding(OK, "none")
    asked = [host for host in LOOPBACK if not proxy_bypass(host)]
    if asked:
        return Finding(
            WARNING,
            f"{names} without an exception for {', '.join(asked)}: flwr and clients of mrff serve "
            "will not reach this machine; mrff itself leaves proxies out here",
            f"export no_proxy={','.join(LOOPBACK)}",
        )
    return Finding(OK, f"{names}, with this machine excepted")
