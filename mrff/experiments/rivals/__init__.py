"""Published federated rivals by the protocols of their papers, in one process."""
