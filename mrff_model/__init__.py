"""The MRFF network, its backbones, gate, parameter scopes and losses: pure PyTorch."""
