"""The ``mrff`` command."""
