"""Initialisation: gains and shifts for any activation (in the manner of `torch.nn.init`)."""

from assay.scale.gain import Gain, gain

__all__ = ["Gain", "gain"]
