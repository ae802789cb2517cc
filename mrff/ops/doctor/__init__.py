"""What would fail on this machine, and how to mend it: the registry of checks.

A new check is a function of a `Place`, which returns a `Finding`, and its line in `CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mrff.ops.doctor.finding import FAULT, OK, WARNING, Finding, Place
from mrff.ops.doctor.machine import clock, disk, gpu, permission
from mrff.ops.doctor.network import ports, proxies
from mrff.ops.doctor.programs import client_process, flower, packages, python, ray

CHECKS: Mapping[str, Callable[[Place], Finding]] = {
    "Python": python,
    "packages": packages,
    "write permission": permission,
    "disk space": disk,
    "GPU": gpu,
    "ports": ports,
    "proxies": proxies,
    "clock": clock,
    "Ray": ray,
    "Flower": flower,
    "process of a node": client_process,
}

__all__ = ["CHECKS", "FAULT", "OK", "WARNING", "Finding", "Place"]
