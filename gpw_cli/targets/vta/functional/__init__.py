"""What a program computes, bit by bit."""
