"""The pages of `mrff report`."""
