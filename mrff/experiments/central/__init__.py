"""Rivals that see everybody's data in one place. NOT federated."""
