"""Looks at a file of interactions and writes the TOML that describes it (``mrff new``)."""
