"""Answers over HTTP on a node: lists of items for its users, and for histories in a request."""
