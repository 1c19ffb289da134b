"""What a program computes, bit for bit."""
