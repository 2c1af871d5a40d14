"""Letters to phonemes: padding, attention, cost, decoding, error rates."""

from functools import cache
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from assay import derive_cost
from assay.builder import Builder
from assay.cost.probe import Probe
from assay.data.vocabulary import END, PAD, START
from assay.subject import IGNORED

both = pytest.mark.parametrize("kind", ["EncoderDecoder", "Attention"])
words = st.lists(st.lists(st.integers(1, 29), min_size=1, max_size=5), min_size=1, max_size=4)


def padded(rows, width, value=PAD):
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def make(g2p, kind, d=6):
    torch.manual_seed(0)
    return getattr(g2p, kind)(d).double()


@both
@settings(max_examples=25)
@given(rows=words, extra=st.integers(0, 4))
def test_padding_letters_changes_nothing(g2p, kind, rows, extra):
    model, heard = make(g2p, kind), torch.tensor([[START, 5, 9]])
    together = model(padded(rows, max(map(len, rows)) + extra), heard.expand(len(rows), -1))
    alone = [
        model(torch.tensor([row]), heard) for row in rows
    ]  # the slow twin has no padding at all
    torch.testing.assert_close(together, torch.cat(alone))


@both
@settings(max_examples=25)
@given(spoken=st.lists(st.integers(3, 41), min_size=1, max_size=5), extra=st.integers(0, 4))
def test_padding_phonemes_changes_no_loss(g2p, kind, spoken, extra):
    model, letters = make(g2p, kind), torch.tensor([[3, 1, 20]])

    def loss(width):
        scores = model(letters, padded([[START, *spoken]], width))
        return g2p.cross_entropy(scores, padded([[*spoken, END]], width, IGNORED))

    torch.testing.assert_close(loss(len(spoken) + 1), loss(len(spoken) + 1 + extra))


@settings(max_examples=25)
@given(rows=words, extra=st.integers(0, 3))
def test_attention_is_a_distribution_over_the_letters(g2p, rows, extra):
    model = make(g2p, "Attention")
    letters = padded(rows, max(map(len, rows)) + extra)
    memory, state = model.encode(letters)
    weights = model.attend(state, memory)
    torch.testing.assert_close(weights.sum(1), torch.ones(len(rows)).double())
    assert bool((weights[letters == PAD] == 0).all())
    assert bool((weights[letters != PAD] > 0).all())


def test_attention_looks_where_the_query_points(g2p):
    model = make(g2p, "Attention")
    states = torch.eye(6).double()[None, :3] * 50
    with torch.no_grad():
        model.query.weight.copy_(torch.eye(6))
    weights = model.attend(states[:, 1], (states, torch.ones(1, 3, dtype=torch.bool)))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1.0, 0.0]]).double())


def test_products_grow_with_n_plus_m_and_with_n_times_m(g2p):
    """Theory C1: the mixed difference in n and m is zero, or the four products of one weight."""
    b, d = 2, 4

    @cache
    def flops(kind, n, m):
        with torch.device("meta"):
            subject = getattr(g2p, kind)(b, n, m, d)
            with FlopCounterMode(display=False) as counter:
                subject.forward()
        return counter.get_total_flops()

    for kind, mixed in (("plain", 0), ("attention", 2 * b * (d + d))):
        for n, m in ((2, 3), (7, 5)):
            corners = [flops(kind, n + i, m + j) for i in (0, 1) for j in (0, 1)]
            assert corners[3] - corners[2] - corners[1] + corners[0] == mixed
            assert flops(kind, n + 2, m) - 2 * flops(kind, n + 1, m) + flops(kind, n, m) == 0
            assert flops(kind, n, m + 2) - 2 * flops(kind, n, m + 1) + flops(kind, n, m) == 0


@both
@pytest.mark.parametrize("epochs", [0, 15])
def test_word_error_is_the_same_teacher_forced_and_greedy(g2p, small_dictionary, kind, epochs):
    examples, model = small_dictionary.train, make(g2p, kind, d=24).float()
    if epochs:
        g2p.train(model, examples, epochs=float(epochs), batch=32)
    with torch.no_grad():
        forced = examples.wrong(model(*examples.inputs))
    said = model.pronounce(examples.inputs[0], longest=examples.targets.shape[1])
    decode = g2p.PHONEMES.decode
    greedy = [
        decode(mine) != decode(right)
        for mine, right in zip(said.tolist(), examples.targets.tolist(), strict=True)
    ]
    assert forced.tolist() == greedy
    rates = g2p.evaluate(model, examples)
    assert rates.word == pytest.approx(sum(greedy) / len(greedy))
    assert (rates.word == 1) if epochs == 0 else (0 < rates.word < 0.9)  # the test sees both kinds


@both
def test_training_lowers_the_loss_and_says_so(g2p, small_dictionary, kind):
    examples, model, told = small_dictionary.train, make(g2p, kind, d=16).float(), []

    def loss():
        with torch.no_grad():
            return g2p.cross_entropy(model(*examples.inputs), examples.targets).item()

    before = loss()
    epochs = 20 * 32 / len(examples)
    g2p.train(model, examples, lambda *news: told.append(news), epochs=epochs, batch=32)
    assert loss() < 0.9 * before
    assert [(task, done, total) for task, done, total, _ in told] == [
        ("training", 10, 20),
        ("training", 20, 20),
    ]


def test_a_part_of_an_epoch_is_at_least_one_step(g2p, small_dictionary):
    told = []
    train = g2p.attention(d=2, epochs=1e-9).fit
    train(g2p.Attention(2), small_dictionary.train, lambda *news: told.append(news))
    assert told[0][1:3] == (1, 1)


def test_error_rates_by_hand(g2p, small_dictionary):
    """Two words of "K AE B" and "K": one is said with an edit more, the other right."""
    k, ae, b = g2p.PHONEMES.encode(("K", "AE", "B"))
    targets = torch.tensor([[k, ae, b, END], [k, END, IGNORED, IGNORED]])
    said = torch.tensor([[k, ae, ae, b], [k, END, b, b]])
    model = SimpleNamespace(pronounce=lambda letters, longest: said)
    model.eval = lambda: model
    heard = torch.cat((torch.full((2, 1), START), targets[:, :-1].clamp(min=PAD)), dim=1)
    heard[1, 2:] = PAD
    examples = type(small_dictionary.test)((torch.ones(2, 3).long(), heard), targets)
    assert g2p.evaluate(model, examples) == (1 / 4, 1 / 2)


@settings(max_examples=60)
@given(st.text("ab", max_size=5), st.text("ab", max_size=5))
def test_edit_distance_agrees_with_its_recursion(g2p, a, b):
    @cache
    def slow(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(
            slow(i - 1, j) + 1, slow(i, j - 1) + 1, slow(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        )

    assert g2p.edit_distance(tuple(a), tuple(b)) == slow(len(a), len(b))


@pytest.mark.parametrize("kind", ["plain", "attention"])
def test_the_script_trains_and_prints_both_rates(g2p, small_dictionary, kind, monkeypatch, capsys):
    monkeypatch.setattr(g2p, "read_cmudict", lambda: small_dictionary)
    g2p.main([kind, "--epochs", "1"])
    printed = capsys.readouterr().out
    assert "phoneme error rate" in printed
    assert "word error rate" in printed
    assert g2p.attention().examples().holdout is small_dictionary.test


def test_the_peak_of_attention_in_loops_has_a_law(g2p):
    """Its formula ends where longer words are too dear to run; the peak's begins where loops are loops."""
    build = Builder(g2p.attention)
    cost, probe = derive_cost(build), Probe(build)
    probe.open(build.sizes)
    for sizes in ({"b": 5, "n": 40, "m": 9, "d": 8}, {"b": 3, "n": 9, "m": 31, "d": 130}):
        assert cost.peak_bytes(**sizes) == pytest.approx(probe(sizes).peak, rel=0.01)
