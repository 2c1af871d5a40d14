"""Problem 1: does every unit start with zero mean and unit variance, forward and backward?"""
