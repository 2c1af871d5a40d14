"""Problem 2: do long paths keep signal and gradient, and is a gate needed?"""
