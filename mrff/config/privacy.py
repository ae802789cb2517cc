"""The privacy settings, and which of them can go together (DESIGN 6)."""

from __future__ import annotations

from dataclasses import dataclass

from mrff.config.parsing import ConfigError, setting
from mrff.config.settings import DataSettings, TrainingSettings

MODES = ("none", "local-dp-sgd", "central-user", "laplace")


@dataclass(frozen=True)
class PrivacySettings:
    """What is promised to whom, and what it costs. Nothing here matters in mode ``none``."""

    privacy_mode: str = setting("none", choices=MODES)
    privacy_unit: str = setting("user", choices=("record", "user"))  # what one guarantee protects
    clipping_norm: float = setting(1.0, above=0.0)  # C: L2, in mode laplace L1
    noise_multiplier: float = setting(1.0, above=0.0)  # standard deviation (Laplace: scale) over C
    delta: float = setting(1e-5, above=0.0, high=0.5)  # of all statements, and of the budget
    epsilon_budget: float = setting(0.0, low=0.0)  # a round beyond it is refused; 0: only counted
    accountant: str = setting("prv", choices=("prv", "rdp"))
    record_sampling_rate: float = setting(1.0, above=0.0, high=1.0)  # per step of local-dp-sgd
    adaptive_clipping: bool = setting(False)  # C follows a noisy quantile of the norms
    clipping_quantile: float = setting(0.5, above=0.0, high=1.0)  # share of norms below C, aimed at
    clipping_learning_rate: float = setting(0.2, low=0.0, high=10.0)
    route_share: float = setting(0.1, low=0.0, high=0.9)  # of C for route counts; 0: none
    own_parameters: str = setting("free", choices=("free", "noised", "frozen"))  # rule 2
    frozen_parameters: str = setting(
        ""
    )  # prefixes of shared names, by comma: not trained, not sent
    clipping_weights: str = setting("")  # prefix=factor, by comma: what arrays count in the norm
    noise_seed: int = setting(-1, low=-1, high=2**63 - 1)  # tests only; -1: fresh, from the system

    @property
    def is_private(self) -> bool:
        """Whether uploads go through a mechanism."""
        return self.privacy_mode != "none"

    @property
    def noise_is_secret(self) -> bool:
        """False when a test seed makes noise and sampling predictable: no guarantee holds then."""
        return self.noise_seed < 0

    @property
    def frozen_prefixes(self) -> tuple[str, ...]:
        """The prefixes in ``frozen_parameters``."""
        return tuple(part.strip() for part in self.frozen_parameters.split(",") if part.strip())

    def clipping_weight(self, name: str) -> float:
        """What the shared array ``name`` is multiplied with before clipping and noise.

        The server divides by it afterwards: the guarantee is the same, but an array with a higher
        weight gets a larger share of the norm, and less noise.

        Raises:
            ConfigError: ``clipping-weights`` cannot be read.
        """
        weight, longest = 1.0, -1
        for prefix, factor in self._clipping_weights():
            if name.startswith(prefix) and len(prefix) > longest:
                weight, longest = factor, len(prefix)
        return weight

    def _clipping_weights(self) -> list[tuple[str, float]]:
        parsed = []
        for part in filter(None, (part.strip() for part in self.clipping_weights.split(","))):
            prefix, equals, factor = part.partition("=")
            try:
                value = float(factor)
            except ValueError:
                value = 0.0
            if not (equals and prefix.strip() and 1e-6 <= value <= 1e6):
                raise ConfigError(
                    "clipping-weights must be prefix=factor, separated by commas, with factors "
                    f"between 1e-06 and 1e+06, got {part!r}"
                )
            parsed.append((prefix.strip(), value))
        return parsed


def check_privacy(privacy: PrivacySettings, data: DataSettings, training: TrainingSettings) -> None:
    """Whether the settings can keep the promise of their mode.

    Raises:
        ConfigError: they cannot; the message says why and names the way out.
    """
    if not privacy.is_private:
        return
    privacy.clipping_weight("")  # whether it can be read
    mode = privacy.privacy_mode
    if training.user_weighting != "uniform":
        raise ConfigError(
            f"user-weighting={training.user_weighting} cannot go with privacy-mode={mode}: a user "
            "with more targets would count for more than clipping-norm; use user-weighting=uniform"
        )
    if privacy.adaptive_clipping and privacy.route_share == 0.0:
        raise ConfigError(
            "adaptive-clipping=true cannot go with route-share=0: the count of clipped units is "
            "measured with that share of clipping-norm; use a route-share such as 0.1"
        )
    one_window = data.max_windows_per_user == 1
    if mode != "local-dp-sgd":
        _check_whole_users(privacy)
        return
    if privacy.privacy_unit == "user" and not one_window:
        raise ConfigError(
            "privacy-unit=user in privacy-mode=local-dp-sgd needs max-windows-per-user=1, got "
            f"{data.max_windows_per_user}: with several records a user's share is several times "
            "clipping-norm; use one window, privacy-unit=record, or privacy-mode=central-user"
        )
    if privacy.own_parameters == "free" and not one_window:
        raise ConfigError(
            "own-parameters=free cannot go with several windows per user in "
            "privacy-mode=local-dp-sgd: one record would move the user's own parameters, and "
            "through them the gradients of his other records; use own-parameters=noised or "
            "frozen, or max-windows-per-user=1"
        )
    if training.local_optimizer != "sgd":
        raise ConfigError(
            "local-optimizer=adam cannot go with privacy-mode=local-dp-sgd: it makes full steps of "
            "coordinates that hold nothing but noise; use sgd, and Adam on the server"
        )


def _check_whole_users(privacy: PrivacySettings) -> None:
    mode = privacy.privacy_mode
    if privacy.privacy_unit != "user":
        raise ConfigError(
            f"privacy-unit={privacy.privacy_unit} cannot go with privacy-mode={mode}: it clips "
            "whole users; use privacy-unit=user, or privacy-mode=local-dp-sgd"
        )
    if privacy.own_parameters == "noised":
        raise ConfigError(
            f"own-parameters=noised cannot go with privacy-mode={mode}: the unit is the user, "
            "whose own parameters touch his own update only; use own-parameters=free or frozen"
        )
    if privacy.record_sampling_rate != 1.0:
        raise ConfigError(
            f"record-sampling-rate={privacy.record_sampling_rate:g} cannot go with "
            f"privacy-mode={mode}: it samples users (sampling-rate); leave it at 1"
        )
