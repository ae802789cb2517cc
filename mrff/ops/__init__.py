"""The product's tools: the engine, keys, export, recommendations."""
