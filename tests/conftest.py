"""Fixtures that every room's tests share."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("assay", deadline=None)  # no test asserts a time
settings.load_profile("assay")

_TRACED = 4  # of so many tests of costs one is


def pytest_collection_modifyitems(items):
    """Leave most tests of costs out of the coverage: to trace their search takes longer than to run it."""
    costs = [item for item in items if item.path.parent == Path(__file__).parent / "cost"]
    for k, item in enumerate(costs):
        if k % _TRACED:
            item.add_marker("no_cover")


@pytest.fixture(autouse=True)
def _seeded_and_quiet():
    """Every test starts from the same seed, and leaves torch's defaults as they were."""
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
