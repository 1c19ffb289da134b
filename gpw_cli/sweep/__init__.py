"""Expanding a grid and running its points."""
