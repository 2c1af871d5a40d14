import pytest

from assay.errors import (
    AssayError,
    CannotMeasure,
    MalformedCertificate,
    UsageError,
    UserCodeError,
    said,
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


def test_a_traceback_holds_neither_our_frames_nor_our_errors():
    import torch
    from torch import nn

    import assay

    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return self.inner(x) @ torch.ones(7, 7)

    try:
        raise CannotMeasure("an earlier attempt", 1, "more", "Go on.")
    except CannotMeasure:
        with pytest.raises(UserCodeError) as caught:
            assay.measure_scale((Broken(), torch.ones(2, 3)))
    text = caught.value.user_traceback()
    assert text.splitlines()[1].startswith(f'  File "{__file__}"')
    for word in ("src/assay", "an earlier attempt", "_ops.py", "_dynamo"):
        assert word not in text
    assert "mat1 and mat2" in text.splitlines()[-1]


def test_causes_of_the_users_error_stay():
    def builder():
        try:
            return {}["corpus"]
        except KeyError as error:
            raise ValueError("no corpus") from error

    from assay.builder import Builder

    with pytest.raises(UserCodeError) as caught:
        Builder(builder)()
    text = caught.value.user_traceback()
    assert "KeyError: 'corpus'" in text
    assert "direct cause" in text


def test_an_exception_in_one_line():
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    assert said(ValueError("two\nlines")) == "ValueError: two lines"
    assert said(Odd()) == "Odd: (its text raised RuntimeError)"
    assert len(said(ValueError("x" * 5000))) < 700
