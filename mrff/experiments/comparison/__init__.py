"""A grid of runs and what their difference proves; the command is ``mrff compare``."""
