import pytest

from assay.errors import (
    AssayError,
    CannotMeasure,
    MalformedCertificate,
    UsageError,
    UserCodeError,
    verbatim,
)


def test_message_names_argument_value_expectation_and_remedy():
    error = UsageError("size n", 0, "an integer of at least 1", "Give --size n=2.")
    assert str(error) == "size n = 0: expected an integer of at least 1. Give --size n=2."
    assert (error.argument, error.value) == ("size n", 0)


def test_long_values_are_cut_and_verbatim_values_are_not_quoted():
    assert len(str(UsageError("x", "a" * 5000, "less", "Cut it."))) < 200
    assert str(UsageError("x", verbatim("two words"), "less", "Cut it.")).startswith(
        "x = two words:"
    )


@pytest.mark.parametrize(
    ("kind", "code"),
    [(AssayError, 3), (CannotMeasure, 3), (UsageError, 2), (MalformedCertificate, 4)],
)
def test_exit_codes(kind, code):
    assert kind("a", 1, "b", "c").exit_code == code


def test_usage_errors_are_value_errors():
    assert issubclass(UsageError, ValueError)


def test_user_traceback_starts_at_the_users_frame():
    import torch
    from torch import nn

    from assay.subject import Subject

    class Broken(nn.Module):
        def forward(self, x):
            return self.missing(x)

    with pytest.raises(UserCodeError) as caught:
        Subject(Broken(), torch.ones(1)).forward()
    text = caught.value.user_traceback()
    assert "return self.missing(x)" in text
    assert "src/assay" not in text
    assert isinstance(caught.value.__cause__, AttributeError)
    assert caught.value.exit_code == 3
