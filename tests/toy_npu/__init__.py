"""A second family of NPUs, as small as one can be: it counts multiplications of kept tiles."""
