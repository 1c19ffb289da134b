"""Data sets: CIFAR-10, the embedded digits, image folders of the user."""
