"""Problem 3: what do forward and backward cost, as an exact formula in the user's sizes?"""
