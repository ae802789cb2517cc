"""Reads a TOML table key by key: wrong kinds, missing keys and unknown keys are named."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

from mrff.data.errors import DataError


class Keys:
    """One table of a TOML file; at the end, what was not asked for is unknown."""

    def __init__(self, path: Path, where: str, content: Any) -> None:
        """``where`` is the dotted name of the table, empty for the top."""
        self.path, self.where = path, where
        if not isinstance(content, dict):
            raise self.error(f"{where} must be a table, got {content!r}")
        self.content: dict[str, Any] = content
        self._asked: set[str] = set()

    @classmethod
    def of_file(cls, path: Path) -> Keys:
        """The top table of a file."""
        try:
            return cls(path, "", tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path} is no valid TOML ({error}); see docs/data.md") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}); check the path") from None

    def error(self, text: str) -> DataError:
        """The error of this file with this text."""
        return DataError(f"{self.path}: {text}; see docs/data.md")

    def wrong(self, key: str, text: str) -> DataError:
        """The error of a key."""
        return self.error(f"{self.name(key)} {text}")

    def name(self, key: str) -> str:
        """The dotted name of a key."""
        return f"{self.where}.{key}" if self.where else key

    def get(self, key: str) -> Any:
        """The value, None if absent."""
        self._asked.add(key)
        return self.content.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty; required if there is no default."""
        value = self.get(key)
        if value is None:
            if default is None:
                raise self.wrong(key, "is missing")
            return default
        if not isinstance(value, str) or not value:
            raise self.wrong(key, f"must be a text, got {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts or whole numbers, as texts; None if absent."""
        if self.get(key) is None:
            return None
        return tuple(map(str, self._list(key, "texts", (str, int))))

    def numbers(self, key: str) -> tuple[float, ...]:
        """A required list of finite numbers."""
        numbers = self._list(key, "numbers", (int, float))
        if not all(map(math.isfinite, numbers)):
            raise self.wrong(key, f"must be a list of numbers, got {numbers!r}")
        return tuple(map(float, numbers))

    def _list(self, key: str, wanted: str, kinds: tuple[type, ...]) -> list[Any]:
        value = self.get(key)
        if not isinstance(value, list) or not value or not all(type(v) in kinds for v in value):
            raise self.wrong(key, f"must be a list of {wanted}, got {value!r}")
        return value

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of the choices."""
        value = self.text(key, default)
        if value not in choices:
            raise self.wrong(key, f"must be one of {', '.join(choices)}, got {value!r}")
        return value

    def table(self, key: str) -> Keys:
        """A table, empty if absent."""
        value = self.get(key)
        return Keys(self.path, self.name(key), {} if value is None else value)

    def refuse_others(self) -> None:
        """Raises DataError for the first key nobody asked for."""
        for key in self.content:
            if key not in self._asked:
                known = ", ".join(sorted(self._asked))
                raise self.error(f"unknown key {self.name(key)!r} (known: {known})")
