"""``mrff tune``: searches settings by validation, run after run, through Flower."""
