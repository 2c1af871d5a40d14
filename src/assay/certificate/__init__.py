"""Problem 6: how far can training error be trusted? Codes, bounds, and a file to verify."""
