"""The rules that hardware needs a program to keep."""
