"""Example inputs for models of transformers, by the names of their forward's parameters."""
