"""Flower strategies and the pure aggregation arithmetic under them."""
