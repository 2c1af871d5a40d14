import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from worlds import digits, fit, linear, normed, sentences, tagger

from assay import CannotMeasure, Examples, Subject, UsageError, UserCodeError, bound
from assay.builder import Builder
from assay.certificate import language
from assay.certificate.certify import certify, restore
from assay.certificate.evaluate import count_errors
from assay.certificate.prior import slots
from assay.certificate.quantise import Quantiser


@pytest.fixture(scope="module")
def certificate():
    return certify(linear)


def wrong_by_hand(model, data):
    model.eval()
    with torch.no_grad():
        return int((model(*data.inputs).argmax(-1) != data.targets).sum())


def rules(certificate):
    return {finding.rule: finding for finding in certificate.findings}


def test_the_claim_is_about_the_decoded_model(certificate):
    data = digits()
    assert certificate.examples == len(data) == 1200
    assert certificate.errors >= wrong_by_hand(certificate.model, data)
    assert certificate.errors == wrong_by_hand(certificate.model, data)  # no margin was that thin
    assert certificate.holdout.errors == wrong_by_hand(certificate.model, data.holdout)
    assert certificate.bounds == bound(certificate.errors, 1200, certificate.bits, 0.05)
    assert certificate.errors <= certificate.float_errors + 2 * 0.02 * 1200


def test_the_code_word_alone_makes_the_model_again(certificate):
    fresh = Builder(linear)().model  # another seed: everything that matters is in the word
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = linear().model
    message, code = language.decode(certificate.code, slots(built), sizes=1)
    restore(built, message)
    assert code.bits == certificate.bits == certificate.claim.bits
    assert len(certificate.code) == -(-certificate.bits // 8)
    assert message.sizes == (64,)
    for place, other in zip(slots(built), slots(certificate.model), strict=True):
        assert torch.equal(place.tensor, other.tensor)
    assert not torch.equal(fresh.weight, built.weight)


def test_a_linear_classifier_of_digits_has_a_bound_that_says_something(certificate):
    assert certificate.bits < 2000
    assert not certificate.bounds.vacuous
    assert certificate.findings == ()
    answer = certificate.view().answer
    assert f"{certificate.bits:,} bits" in answer
    assert "held-out examples measured" in answer
    assert f"N = {certificate.examples:,}" in answer


def test_shares_add_up(certificate):
    header = certificate.bits - sum(part.bits for part in certificate.parts)
    assert 15 < header < 40
    assert sum(part.numbers for part in certificate.parts) == 650


def test_plain_data(certificate):
    data = json.loads(json.dumps(certificate.to_dict()))
    assert data["claim"]["bits"] == certificate.bits
    assert data["bounds"]["binomial"] == certificate.bounds.binomial
    assert "model" not in data


def test_it_is_repeatable_and_leaves_the_random_state_alone(certificate):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    again = certify(linear)
    assert again.code == certificate.code
    assert again.claim == certificate.claim
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()


def test_batch_norm_statistics_are_coded():
    certificate = certify(normed, trials=10)
    parts = {part.name: part for part in certificate.parts}
    assert parts["1.running_mean"].bits > 12
    assert parts["1.running_var"].said != "as built"
    assert certificate.errors >= wrong_by_hand(certificate.model, digits())


def test_frozen_tensors_cost_one_decision():
    def frozen_fit(model, examples, progress):
        model[0].requires_grad_(False)
        head = nn.Sequential(model[0], nn.ReLU(), model[1])
        head.requires_grad_(True)
        model[0].requires_grad_(False)
        rule = torch.optim.Adam(model[1].parameters(), lr=0.05)
        for _ in range(30):
            loss = nn.functional.cross_entropy(model(*examples.inputs), examples.targets)
            rule.zero_grad()
            loss.backward()
            rule.step()

    def build(d: int = 64):
        return Subject(nn.Sequential(nn.Linear(d, 40), nn.Linear(40, 10)), fit=frozen_fit)

    parts = {part.name: part for part in certify(build, digits(), trials=6).parts}
    assert parts["0.weight"].said == "as built"
    assert parts["0.weight"].bits < 2
    assert parts["1.weight"].bits > 100


def test_tied_weights_and_padded_sentences():
    certificate = certify(tagger, trials=12)
    assert "head.weight" not in {part.name for part in certificate.parts}
    assert certificate.model.head.weight is certificate.model.embedding.weight
    data = sentences()
    scores = certificate.model.eval()(*data.inputs).argmax(-1)
    wrong = ((scores != data.targets) & (data.targets != -100)).any(1)
    assert int(wrong.sum()) <= certificate.errors < len(data)
    assert certificate.holdout is None


def test_a_trained_model_that_is_handed_over():
    model = linear().model
    fit(model, digits(), None)
    before = copy.deepcopy(model.state_dict())
    certificate = certify(linear, digits(held=False), model=model, delta=0.01, trials=8)
    assert certificate.origin == "model"
    assert certificate.delta == 0.01
    assert certificate.model is not model
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert "The given model" in certificate.view().answer


def test_a_ready_made_module_is_coded_in_full():
    model = linear().model
    fit(model, digits(), None)
    certificate = certify((model, torch.zeros(1, 64)), digits(), trials=8)
    assert not certificate.claim.anchored
    assert certificate.bits > 500
    assert rules(certificate)["certificate.brought-weights"].severity == "note"
    assert "certificate.untrained" in rules(certificate)
    assert certificate.origin == "built"


def test_weights_that_one_vouches_for_cost_nothing_and_are_named():
    model = linear().model
    fit(model, digits(), None)
    certificate = certify(model, digits(), trust=True)
    assert certificate.bits < 40
    assert certificate.claim.brought == ("weight", "bias")
    assert "rests on a promise" in rules(certificate)["certificate.brought-weights"].message


def test_a_ready_made_module_is_not_trained_in_place():
    subject = linear()
    before = copy.deepcopy(subject.model.state_dict())
    certificate = certify(subject, trials=4)
    assert certificate.origin == "fit"
    assert all(torch.equal(before[k], v) for k, v in subject.model.state_dict().items())


def test_a_builder_that_cannot_be_repeated_is_coded_in_full():
    count = iter(range(1, 100))

    def build():
        model = nn.Linear(64, 10)
        nn.init.constant_(model.bias, next(count))
        return model

    certificate = certify(build, digits(), trials=3)
    assert not certificate.claim.anchored
    assert "Building twice" in rules(certificate)["certificate.brought-weights"].message


def test_a_wide_network_on_few_examples_is_vacuous_and_says_so():
    def build(d: int = 64):
        net = nn.Sequential(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, 10))
        return Subject(net, examples=lambda: digits(200), fit=fit)

    certificate = certify(build, trials=8)
    finding = rules(certificate)["certificate.vacuous"]
    assert certificate.bounds.vacuous
    assert not finding.fails
    assert finding.measured.value == certificate.bits
    room = finding.expected.value
    assert bound(certificate.errors, 200, room).best <= 0.99
    assert "vacuous, it says nothing" in certificate.view().answer


def test_copies_and_overlap_and_shift_are_seen():
    data = digits(400)
    few = data[torch.arange(300) % 250]
    held = Examples(data.inputs[0][:20], data.targets[:20])
    certificate = certify(linear, Examples(few.inputs, few.targets, holdout=held), trials=4)
    assert rules(certificate)["certificate.copies"].measured.value == 250
    assert rules(certificate)["certificate.holdout-overlap"].severity == "warning"
    shifted = Examples(data.inputs[0] * 0 + 1, data.targets)
    certificate = certify(linear, Examples(*_pair(digits()), holdout=shifted), trials=8)
    assert rules(certificate)["certificate.shift"].severity == "warning"


def _pair(data):
    return data.inputs, data.targets


def test_a_model_that_looks_at_its_neighbours_is_warned_of():
    class Centred(nn.Linear):
        def forward(self, x):
            scores = super().forward(x)
            return scores - 3 * scores.mean(0)

    def build(d: int = 64):
        return Centred(d, 10)

    assert rules(certify(build, digits()))["certificate.batch-dependent"].fails


def test_the_users_own_error_rule_holds_for_the_held_out_set_too():
    def never(output, targets):
        return torch.zeros(len(targets), dtype=torch.bool)

    data = digits()
    data = Examples(data.inputs, data.targets, errors=never, holdout=data.holdout)
    certificate = certify(linear, data, trials=2)
    assert (certificate.errors, certificate.holdout.errors) == (0, 0)
    assert "never" in certificate.claim.rule


def test_integer_buffers_are_coded_exactly():
    class Counting(nn.Linear):
        def __init__(self, d=64):
            super().__init__(d, 10)
            self.register_buffer("seen", torch.zeros(2, dtype=torch.int64))
            self.register_buffer("mask", torch.tensor([True, False]))
            self.register_buffer("far", torch.full((2,), float("-inf")))

    def count_fit(model, examples, progress):
        model.seen.copy_(torch.tensor([123456789, -5]))

    def build():
        return Subject(Counting(), fit=count_fit)

    certificate = certify(build, digits())
    assert certificate.model.seen.tolist() == [123456789, -5]
    assert certificate.model.far.tolist() == [float("-inf")] * 2
    assert {p.name: p.said for p in certificate.parts}["seen"] == "exactly"


def test_progress_is_told():
    tasks = []
    certify(linear, trials=3, progress=lambda task, done, total, note="": tasks.append(task))
    assert {"choosing steps", "held-out errors"} < set(tasks)


def failing(model, examples, progress):
    raise ZeroDivisionError("in my loop")


def refusing(model, examples, progress):
    raise UsageError("lr", 0, "more", "Raise it.")


def diverging(model, examples, progress):
    with torch.no_grad():
        model.weight[0, 0] = float("nan")


@pytest.mark.parametrize(
    ("training", "error", "match"),
    [
        (failing, UserCodeError, "in my loop"),
        (refusing, UsageError, "lr = 0"),
        (diverging, CannotMeasure, "1 of 640 numbers are NaN"),
    ],
)
def test_training_that_fails(training, error, match):
    def build():
        return Subject(nn.Linear(64, 10), fit=training)

    with pytest.raises(error, match=match):
        certify(build, digits())


def test_integers_beyond_the_language_are_refused():
    place = slots(nn.Linear(1, 1))[0].__class__("n", torch.zeros(1, dtype=torch.int64), False)
    with pytest.raises(CannotMeasure, match="beyond"):
        Quantiser(place, torch.tensor([2**62]), None)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"delta": 0}, "delta"),
        ({"slack": 2}, "slack"),
        ({"trials": 0}, "trials"),
        ({"seed": -1}, "seed"),
        ({"model": nn.Linear(63, 10)}, "model, weight"),
        ({"model": nn.Linear(64, 10).half()}, "model, weight"),
        ({"model": nn.Linear(64, 10, bias=False)}, "model"),
    ],
)
def test_bad_arguments_are_named(options, name):
    with pytest.raises(UsageError, match=f"^{name} = "):
        certify(linear, digits(), **options)


def test_without_examples():
    with pytest.raises(UsageError, match="examples is missing"):
        certify(nn.Linear(2, 2))


def test_arguments_are_part_of_the_code_word():
    def build(d: int = 64, *, act="relu"):
        return Subject(nn.Linear(d, 10), fit=fit)

    plain = certify(build, digits(), trials=2)
    named = certify(Builder(build, arguments={"act": "gelu"}), digits(), trials=2)
    assert named.claim.arguments == '{"act": "gelu"}'
    # a byte is eight bits; the end of an arithmetic code word rounds to a whole bit either way
    assert abs(named.bits - plain.bits - 8 * len(named.claim.arguments)) <= 1


def test_a_convolutional_network():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3))
            self.head = nn.Linear(54, 10)

        def forward(self, x):
            return self.head(self.body(x.reshape(-1, 1, 8, 8)).flatten(1))

    def build():
        return Subject(Net(), fit=fit)

    certificate = certify(build, digits(), trials=10)
    again = count_errors(Subject(certificate.model), digits())
    assert again.errors == certificate.errors < 600


def certificate_of(train, held=None):
    data = digits(400)

    def build(d: int = 64):
        model = nn.Linear(d, 10)
        return Subject(
            model, torch.ones(1, d), examples=Examples(*_pair(data), holdout=held), fit=train
        )

    return certify(build, trials=4)


def test_training_that_ends_no_better_than_a_constant_is_warned_of():
    def ruined(model, examples, progress):
        with torch.no_grad():
            model.weight.zero_()
            model.bias.copy_(torch.arange(10.0))  # always the same answer

    finding = rules(certificate_of(ruined))["certificate.unfitted"]
    assert finding.fails
    assert finding.measured.value >= finding.expected.value
    assert "certificate.unfitted" not in rules(certificate_of(fit))


def test_a_held_out_set_that_training_saw_is_said_beside_its_error():
    other = digits(600)
    fresh = Examples(other.inputs[0][400:], other.targets[400:])
    part = Examples(other.inputs[0][350:], other.targets[350:])
    seen = certificate_of(fit, part)
    assert seen.holdout.shared == 50
    assert "50 of them are training examples too" in seen.view().answer
    assert rules(seen)["certificate.holdout-overlap"].fails  # no training example has a copy
    clean = certificate_of(fit, fresh)
    assert clean.holdout.shared == 0
    assert "training examples too" not in clean.view().answer


def test_a_world_that_repeats_itself_may_repeat_in_the_held_out_set():
    data = digits(60)
    rows = torch.arange(600) % 60
    held = Examples(data.inputs[0], data.targets)

    def build(d: int = 64):
        given = Examples(data.inputs[0][rows], data.targets[rows], holdout=held)
        return Subject(nn.Linear(d, 10), torch.ones(1, d), examples=given, fit=fit)

    finding = rules(certify(build, trials=4))["certificate.holdout-overlap"]
    assert finding.measured.value == 60
    assert not finding.fails
