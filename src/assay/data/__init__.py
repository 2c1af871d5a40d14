"""Readers of real data sets that packages ship."""
