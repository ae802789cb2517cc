"""What runs on a device or in a silo: training, evaluation and the private store."""
