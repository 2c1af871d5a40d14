import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay import Examples, Subject, UsageError, UserCodeError
from assay.certificate.evaluate import (
    count_errors,
    depends_on_batch,
    digest,
    error_rule,
    fingerprints,
)


def judged(scores, targets, **options):
    """Errors of a model that returns its input."""
    scores, targets = torch.as_tensor(scores), torch.as_tensor(targets)
    count = count_errors(Subject(nn.Identity()), Examples(scores, targets, **options))
    return count.errors, count.plain


def test_argmax_with_a_margin():
    scores = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0 - 1e-7], [1e6, 1e6 - 1], [float("nan"), 0.0]]
    assert judged(scores, [0, 0, 0, 0, 0]) == (4, 2)  # the margin is relative to the score


def test_infinite_scores_are_errors():
    assert judged([[float("inf"), 0.0], [float("-inf"), 0.0]], [0, 1]) == (1, 1)


def test_a_sentence_is_wrong_when_any_counted_position_is():
    right = torch.eye(3)[torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2]])]
    targets = [[0, 1, 2], [0, 2, 2], [0, 1, -100]]
    assert judged(right, targets) == (1, 1)
    assert judged(right, [[-100] * 3] * 3) == (0, 0)


@settings(max_examples=25)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(2, 5), st.integers(0, 10**6))
def test_agrees_with_counting_by_hand(n, m, classes, seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randn(n, m, classes, generator=draw)
    targets = torch.randint(classes, (n, m), generator=draw)
    targets[torch.rand(n, m, generator=draw) < 0.3] = -100
    wrong = 0
    for row, row_targets in zip(scores.tolist(), targets.tolist(), strict=True):
        pairs = zip(row, row_targets, strict=True)
        wrong += any(t != -100 and max(s) != s[t] for s, t in pairs)
    assert judged(scores, targets)[1] == wrong


def test_a_rule_of_ones_own():
    def too_far(output, targets):
        return (output[:, 0] - targets).abs() > 0.5

    assert judged([[1.0], [3.0]], [1.2, 2.0], errors=too_far) == (1, 1)
    few = Examples(torch.zeros(1, 1), torch.zeros(1), errors=too_far)
    assert "too_far" in error_rule(few)
    assert "margin" in error_rule(Examples(torch.zeros(1, 1), torch.zeros(1)))


def test_rules_that_fail_are_named():
    def broken(output, targets):
        raise RuntimeError("mine")

    def usage(output, targets):
        raise UsageError("x", 1, "2", "3")

    with pytest.raises(UserCodeError, match="broken"):
        judged([[1.0]], [1], errors=broken)
    with pytest.raises(UsageError, match="x = 1"):
        judged([[1.0]], [1], errors=usage)
    for result in (torch.tensor(True), 3, torch.zeros(1, 1)):
        with pytest.raises(UsageError, match=r"examples\.errors"):
            judged([[1.0]], [1], errors=lambda output, targets, r=result: r)


@pytest.mark.parametrize(
    ("scores", "targets", "match"),
    [
        ([[0.0, 1.0]], [0.5], "integer targets"),
        ([[1.0]], [0], "two or more"),
        ([1.0, 2.0], [0, 1], "two or more"),
        ([[0.0, 1.0]] * 3, [[0]] * 3, "Reshape"),
    ],
)
def test_outputs_without_classes_need_a_rule(scores, targets, match):
    with pytest.raises(UsageError, match=match):
        judged(scores, targets)


def test_a_forward_that_raises_is_the_users():
    with pytest.raises(UserCodeError, match="Linear"):
        count_errors(Subject(nn.Linear(3, 2)), Examples(torch.zeros(2, 5), torch.zeros(2)))


def test_evaluation_mode_and_the_model_as_before():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout(0.9))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = Examples(torch.randn(600, 2), torch.zeros(600, dtype=torch.long))
    seen = []
    counts = {
        count_errors(
            Subject(model),
            data,
            progress=lambda task, done, total, note="": seen.append((done, total)),
        )
        for _ in range(2)
    }
    assert len(counts) == 1  # no dropout
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert seen[-1] == (600, 600)
    assert 0 <= counts.pop().rate <= 1


def test_keyword_arguments_without_tensors_are_passed_on():
    class Turned(nn.Module):
        def forward(self, x, flip=False, mask=None):
            assert mask is None
            return -x if flip else x

    data = Examples(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    subject = Subject(Turned(), kwargs={"flip": True, "mask": torch.ones(7)})
    assert count_errors(subject, data).errors == 0


def test_models_that_look_at_their_neighbours_are_seen():
    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean(0)

    data = Examples(torch.randn(40, 3), torch.randint(3, (40,)))
    assert depends_on_batch(Subject(Centred()), data) > 0
    assert depends_on_batch(Subject(nn.BatchNorm1d(3)), data) == 0


def test_digest_and_fingerprints():
    x, y = torch.arange(6.0).reshape(3, 2), torch.tensor([0, 1, 0])
    data = Examples(x, y)
    others = [
        Examples(x.double(), y),
        Examples(x.reshape(3, 2, 1), y),
        Examples(x.flip(0), y.flip(0)),
        Examples(x, 1 - y),
    ]
    assert len({digest(e) for e in (data, *others)}) == 5
    assert digest(Examples(x.t().contiguous().t(), y, name="n", holdout=data)) == digest(data)
    twice = fingerprints(Examples(torch.cat([x, x[:1]]), torch.cat([y, y[:1]])))
    assert len(twice) == 4
    assert len(set(twice)) == 3
