"""What the product's parts share, and what people run."""
