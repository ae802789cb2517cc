"""The arithmetic of privacy: accounting, the ledger, noise, clipping. No Flower, no data."""
