"""The rules of the hardware that a program has to keep."""
