"""Fixtures that every room's tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded_and_quiet():
    """Every test starts from the same seed, and leaves torch's defaults as they were."""
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
