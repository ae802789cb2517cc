"""Attacks on trained models, and what their success says about epsilon."""
