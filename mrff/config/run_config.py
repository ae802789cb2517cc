"""One run's whole configuration, built once from Flower's flat run configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from mrff.config.conflicts import conflicts
from mrff.config.declaration import AUTO, ConfigError, Value
from mrff.config.derived import LEARNED_OF, Derived
from mrff.config.names import GROUPS, SETTINGS, check_full_names


@dataclass(frozen=True)
class RunConfig(Derived):
    """One run's settings, as Flower's flat configuration says them.

    ``to_fit`` are the full names of settings that the data may still decide; until then they have
    their plain defaults. A private run has none: what the data says would be told.
    """

    to_fit: frozenset[str] = frozenset()

    @classmethod
    def from_flat(cls, values: Mapping[str, Value]) -> RunConfig:
        """Builds the configuration from full names, as Flower hands them over.

        `mrff.config.full_names` makes full names of leaves and of tables.

        Raises:
            ConfigError: an unknown name, a wrong type, a value outside its limits, or settings
                that cannot go together.
        """
        check_full_names(values)
        given: dict[str, dict[str, Value | None]] = {group: {} for group in GROUPS}
        for key, setting in SETTINGS.items():
            if key in values:
                given[setting.group][setting.attribute] = setting.parsed(values[key])
        config = cls(**{group: settings(**given[group]) for group, settings in GROUPS.items()})
        for conflict in conflicts(config):
            raise ConfigError(conflict)
        if not config.run.fit_settings or config.privacy.mode != "none":
            return config
        left = (
            k for k, setting in SETTINGS.items() if setting.fitted and values.get(k, AUTO) == AUTO
        )
        return dataclasses.replace(config, to_fit=frozenset(left))

    def for_data(self, kind: str) -> RunConfig:
        """The configuration of a run on data of this kind: what is left to the data is decided.

        Server and nodes both ask, each its own schema, whose hash they share. What a run stores
        is decided already.

        Args:
            kind: of rows, as the schema says it: ``labelled``, ``events`` or ``both``.

        Raises:
            ConfigError: an objective that needs labels on data without, or settings that cannot
                go with the objective.
        """
        objective = self.training.objective or LEARNED_OF[kind]
        if kind == "events" and objective != "next":
            raise ConfigError(
                f"training.objective={objective} cannot go with data.dataset={self.data.dataset}: "
                "its rows are events without labels, and nothing says what was not liked; "
                "choose training.objective=next"
            )
        if kind == "events" and self.data.same_time == "unknown":
            raise ConfigError(
                f"data.same-time=unknown cannot go with data.dataset={self.data.dataset}: its rows "
                "are events without labels, and none can be unknown; use data.same-time=known"
            )
        return RunConfig.from_flat({**self.to_flat(), "training.objective": objective})

    def to_flat(self) -> dict[str, Value]:
        """The inverse of `from_flat`, every setting included."""
        return {
            key: AUTO
            if key in self.to_fit
            else setting.written(getattr(getattr(self, setting.group), setting.attribute))
            for key, setting in SETTINGS.items()
        }

    def with_fitted(self, found: Mapping[str, Value]) -> RunConfig:
        """The configuration with fitting values of what was left open; nothing is open then.

        Args:
            found: by full name; what is not in `to_fit` was said by somebody, and stays.
        """
        open_ = {key: value for key, value in found.items() if key in self.to_fit}
        return RunConfig.from_flat({**self.to_flat(), **open_, "run.fit-settings": False})

    @property
    def for_scoring(self) -> RunConfig:
        """Where nothing is held out for a test, users are scored on their last interaction."""
        return self if self.tests else RunConfig.from_flat({**self.to_flat(), "data.holdout": 1})
