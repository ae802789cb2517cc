"""What travels between server and nodes, declared once: requests, replies, encoding, checks."""
