"""The ServerApp: configuration in, a trained model and its history out."""
