"""The MRFF network, its backbones, gate, parameter scopes, losses and metrics: pure PyTorch."""
