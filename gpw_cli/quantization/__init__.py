"""Ranges, scales, the integer network and its reference executor."""
