import functools

import pytest
import torch
from torch import nn
from worlds import digits, fit, linear, normed, tagger

from assay import CannotMeasure, Subject, UsageError
from assay.builder import Builder
from assay.certificate.certify import certify
from assay.certificate.prior import Prior, slots
from assay.certificate.verify import verify


def names(model):
    return [place.name for place in slots(model)]


def test_tied_tensors_count_once():
    model = tagger().model
    assert "embedding.weight" in names(model)
    assert "head.weight" not in names(model)


def test_parameters_that_share_memory_count_once():
    model = nn.Module()
    model.a = nn.Parameter(torch.ones(3))
    model.b = nn.Parameter(model.a.data)
    assert names(model) == ["a"]


def test_persistent_buffers_count_and_others_do_not():
    model = nn.Module()
    model.register_buffer("kept", torch.ones(2))
    model.register_buffer("made", torch.ones(2), persistent=False)
    model.register_buffer("nothing", None)
    model.empty = nn.Parameter(torch.ones(0))
    assert names(model) == ["kept"]
    assert names(nn.Sequential(nn.BatchNorm1d(2)))[2:] == ["0.running_mean", "0.running_var"]


@pytest.mark.parametrize("model", [nn.LazyLinear(3), nn.Linear(2, 2, device="meta")])
def test_tensors_without_data_are_refused(model):
    with pytest.raises(CannotMeasure, match="weight"):
        slots(model)


def test_a_builder_that_draws_from_the_seed_brings_nothing():
    for build in (linear, normed, tagger):
        prior = Prior.of(Builder(build), 0)
        assert (prior.brought, prior.repeatable, prior.shared) == ((), True, False)
        assert prior.anchored(trust=False)


def test_the_digest_depends_on_seed_and_sizes_and_values():
    digests = {
        Prior.of(Builder(linear, sizes={"d": d}), seed).digest(anchored)
        for d, seed, anchored in [(64, 0, True), (64, 1, True), (63, 0, True), (64, 0, False)]
    }
    assert len(digests) == 4
    assert Prior.of(Builder(linear), 3).digest(False) == Prior.of(Builder(linear), 4).digest(False)


def test_weights_from_elsewhere_are_brought():
    checkpoint = nn.Linear(4, 3).state_dict()

    def build():
        model = nn.Linear(4, 3)
        model.load_state_dict(checkpoint)
        return model

    prior = Prior.of(Builder(build), 0)
    assert prior.brought == ("weight", "bias")
    assert not prior.anchored(trust=False)
    assert prior.anchored(trust=True)


def test_a_builder_that_seeds_itself_brings_everything():
    def build():
        torch.manual_seed(7)
        return nn.Linear(4, 3)

    assert Prior.of(Builder(build), 0).brought == ("weight", "bias")


def test_constants_are_not_brought():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.full((5,), 1e-4))
            self.norm = nn.LayerNorm(5)

    assert Prior.of(Builder(Scaled), 0).brought == ()


def test_a_module_is_brought_and_copied():
    model = nn.Linear(4, 3)
    prior = Prior.of(Builder(model), 0)
    assert prior.shared
    assert prior.brought == ("weight", "bias")
    assert prior.subject.model is not model
    assert prior.fresh().model is not model


def test_a_builder_that_returns_one_module_every_time_counts_as_shared():
    model = nn.Linear(4, 3)
    assert Prior.of(Builder(functools.partial(lambda m: m, model)), 0).shared


def test_a_shared_module_that_cannot_be_copied_is_refused():
    class Stubborn(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("no")

    with pytest.raises(CannotMeasure, match="cannot be copied"):
        Prior.of(Builder(Stubborn(2, 2)), 0)


def test_a_builder_that_differs_every_time_is_not_referred_to():
    count = iter(range(100))

    def build():
        return Subject(nn.Linear(2, 2), torch.full((1, 2), float(next(count))))

    def drifting():
        model = nn.Linear(2, 2)
        nn.init.constant_(model.bias, next(count))
        return model

    assert Prior.of(Builder(build), 0).repeatable
    drifting = Prior.of(Builder(drifting), 0)
    assert not drifting.repeatable
    assert not drifting.anchored(trust=True)


@pytest.mark.parametrize("seed", [-1, 2**62, True, 1.0])
def test_seeds_out_of_range(seed):
    with pytest.raises(UsageError, match="seed"):
        Prior.of(Builder(linear), seed)


def test_building_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    Prior.of(Builder(normed), 5)
    assert torch.equal(before, torch.get_rng_state())


class Standardised(nn.Linear):
    """Divides by a table that is a buffer."""

    def __init__(self, table):
        super().__init__(64, 10)
        self.register_buffer("table", table)

    def forward(self, x):
        return super().forward(x / self.table)


def test_buffers_that_the_builder_computed_are_named_and_those_that_fit_fills_are_coded(tmp_path):
    def leaking():  # feature scales of the very examples, for free
        return Subject(Standardised(digits().inputs[0].std(0) + 0.1), fit=fit)

    def honest():
        def fill(model, examples, progress):
            model.table.copy_(examples.inputs[0].std(0) + 0.1)
            fit(model, examples, progress)

        return Subject(Standardised(torch.ones(64)), fit=fill)

    rule = "certificate.built-in-buffers"
    told = certify(leaking, digits(), trials=3)
    assert [f.measured.value for f in told.findings if f.rule == rule] == [1]
    told.save(tmp_path / "c")
    assert rule in {f.rule for f in verify(tmp_path / "c", leaking, digits()).findings}
    coded = certify(honest, digits(), trials=3)
    assert rule not in {f.rule for f in coded.findings}
    bits = {part.name: part.bits for part in coded.parts}
    assert bits["table"] > 64 > next(p.bits for p in told.parts if p.name == "table")
