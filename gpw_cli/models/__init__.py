"""The networks, their checkpoints and the weights that gpw ships."""
