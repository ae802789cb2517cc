"""Datasets: recipes, preparation, splits, windows, and shards of users over nodes."""
