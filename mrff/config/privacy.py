"""The privacy settings; which can go together is each mechanism's to say."""

from __future__ import annotations

from dataclasses import dataclass

from mrff.config.declaration import ConfigError, Limits, setting


@dataclass(frozen=True)
class PrivacySettings:
    """What is promised to whom, and what it costs. In mode ``none`` secure sums matter alone."""

    mode: str = setting(
        "none", "who is not trusted: docs/privacy.md", Limits(registry="privacy mechanisms")
    )
    unit: str = setting("user", "what one guarantee protects", Limits(choices=("record", "user")))
    clipping_norm: float = setting(1.0, "C: L2, in mode laplace L1", Limits(above=0.0))
    noise_multiplier: float = setting(
        1.0, "standard deviation (laplace: scale) of the noise over C", Limits(above=0.0)
    )
    delta: float = setting(
        1e-5, "of all statements, and of the budget", Limits(above=0.0, high=0.5)
    )
    epsilon_budget: float | None = setting(
        "off", "a round beyond it is refused; off: only counted", Limits(above=0.0, word="off")
    )
    accountant: str = setting("prv", "what adds rounds up", Limits(choices=("prv", "rdp")))
    test_noise: float = setting(
        4.0,
        "of a private run's one test: standard deviation over what a user can add",
        Limits(above=0.0),
    )
    item_noise: float = setting(
        2.0,
        "of a private run's item statistics: standard deviation over what a user can add",
        Limits(above=0.0),
    )
    record_sampling_rate: float = setting(
        1.0, "share of a node's records per step of local-dp-sgd", Limits(above=0.0, high=1.0)
    )
    grid_steps: int = setting(
        4096, "distributed-user: C over the step of the integer grid", Limits(1, 1_000_000)
    )
    adaptive_clipping: bool = setting(False, "C follows a noisy median of the norms")
    route_share: float = setting(
        0.1, "of C for route counts; 0: they are not sent", Limits(0.0, 0.9)
    )
    private_training: str = setting(
        "free",
        "how private parameters are trained: without noise, in the noised step, or not at all",
        Limits(choices=("free", "noised", "frozen")),
    )
    frozen_shared: str | None = setting(
        "off",
        "prefixes of shared arrays, by comma, that are neither trained nor sent",
        Limits(word="off"),
    )
    clipping_weights: str | None = setting(
        "off", "prefix=factor, by comma: what arrays count in the norm", Limits(word="off")
    )
    secure_aggregation: bool = setting(False, "the server sees sums over nodes, and no node's own")
    secure_threshold: float = setting(
        0.6, "share of nodes that have to be left for a sum to be opened", Limits(above=0.5, high=1)
    )
    secure_colluders: int = setting(
        0, "c, nodes that may help the server; they raise the threshold", Limits(0, 1_000_000)
    )
    secure_ring_bits: int = setting(
        32, "of an array's element in a secure sum: 16, 32 or 64", Limits(16, 64)
    )
    secure_value_bits: int = setting(
        24, "of what one node adds to it; every doubling of the nodes takes one", Limits(4, 53)
    )
    secure_range: float = setting(
        64.0,
        "largest value of one node's sum before sums were seen; larger ones are cut, counted",
        Limits(above=0.0),
    )

    @property
    def is_private(self) -> bool:
        """Whether uploads go through a mechanism."""
        return self.mode != "none"

    @property
    def frozen_prefixes(self) -> tuple[str, ...]:
        """The prefixes in ``frozen_shared``."""
        return tuple(_parts(self.frozen_shared))

    def clipping_weight(self, name: str) -> float:
        """What the shared array ``name`` is multiplied with before clipping and noise.

        The server divides by it afterwards: the guarantee is the same, but an array with a higher
        weight gets a larger share of the norm, and less noise.

        Raises:
            ConfigError: ``privacy.clipping-weights`` cannot be read.
        """
        weight, longest = 1.0, -1
        for prefix, factor in self._clipping_weights():
            if name.startswith(prefix) and len(prefix) > longest:
                weight, longest = factor, len(prefix)
        return weight

    def _clipping_weights(self) -> list[tuple[str, float]]:
        parsed = []
        for part in _parts(self.clipping_weights):
            prefix, equals, factor = part.partition("=")
            try:
                value = float(factor)
            except ValueError:
                value = 0.0
            if not (equals and prefix.strip() and 1e-6 <= value <= 1e6):
                raise ConfigError(
                    "privacy.clipping-weights must be prefix=factor, separated by commas, with "
                    f"factors between 1e-06 and 1e+06, got {part!r}"
                )
            parsed.append((prefix.strip(), value))
        return parsed


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
