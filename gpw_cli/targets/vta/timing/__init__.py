"""How many cycles a program takes, and where they go."""
