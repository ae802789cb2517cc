"""The one error of this package."""


class DataError(ValueError):
    """Data that cannot be used; the one-line message names the value, the limit and the way out."""
