"""Pruning: group shapes, scores, how many groups go where, and the masks (no training here)."""
