"""A model's own warnings: once, where the user's sizes are, and none at sizes that nobody asked for."""

import warnings

import torch
from torch import nn

from assay import derive_cost
from assay.state import quiet


def grumbling(b: int = 2, d: int = 6):
    warnings.warn(f"a model of width {d}", stacklevel=1)
    return nn.Linear(d, d), torch.randn(b, d)


def test_sizes_that_are_only_probed_warn_of_nothing():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        derive_cost(grumbling)
    assert {str(w.message) for w in seen} == {"a model of width 6"}


def test_what_is_kept_silent_is_shown_again_behind_also_after_an_exception():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            with quiet():
                warnings.warn("inside", stacklevel=1)
                raise KeyError
        except KeyError:
            pass
        warnings.warn("behind", stacklevel=1)
    assert [str(w.message) for w in seen] == ["behind"]


def talking(b: int = 2, d: int = 6):
    print(f"a model of width {d}")
    return nn.Linear(d, d), torch.randn(b, d)


def test_what_a_builder_prints_is_shown_once_for_the_users_sizes(capsys):
    derive_cost(talking)
    assert capsys.readouterr().out == "a model of width 6\n"
