"""Privacy mechanisms. A new one: its file, and its line in `MECHANISMS`."""

from __future__ import annotations

from mrff.config import ConfigError, RunConfig
from mrff.privacy.mechanisms.base import Mechanism
from mrff.privacy.mechanisms.central_user import CentralUser
from mrff.privacy.mechanisms.distributed_user import DistributedUser
from mrff.privacy.mechanisms.laplace import Laplace
from mrff.privacy.mechanisms.local_dp_sgd import LocalDpSgd
from mrff.privacy.mechanisms.none import NoMechanism

MECHANISMS: dict[str, Mechanism] = {
    mechanism.name: mechanism
    for mechanism in (NoMechanism(), LocalDpSgd(), CentralUser(), DistributedUser(), Laplace())
}


def mechanism_of(config: RunConfig) -> Mechanism:
    """The configured mechanism, whose settings can go together.

    Raises:
        ConfigError: there is none of that name, or the settings cannot keep its promise.
    """
    name = config.privacy.mode
    if name not in MECHANISMS:
        raise ConfigError(f"privacy.mode must be one of {', '.join(MECHANISMS)}, got {name!r}")
    mechanism = MECHANISMS[name]
    for conflict in mechanism.conflicts(config):
        raise ConfigError(conflict)
    return mechanism
