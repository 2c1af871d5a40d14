"""What a repair says is done, and the model measured again: nothing new is found."""

import math
import re

import pytest
import torch
from torch import nn

from assay import measure_scale


class Shifted(nn.Module):
    """Inputs whose units have means of so many standard deviations; or these taken out again."""

    def __init__(self, shift, size=1.0):
        super().__init__()
        self.shift, self.size = shift, size

    def forward(self, x):
        return self.size * (x + self.shift)


def layers(*stds, width=64):
    found = []
    for std in stds:
        layer = nn.Linear(width, width)
        nn.init.normal_(layer.weight, std=std / math.sqrt(width))
        nn.init.zeros_(layer.bias)
        found.append(layer)
    return found


def findings(model, x):
    return {finding.rule: finding for finding in measure_scale((model, x)).findings}


def apply(repair, model):
    """Run all code that a repair tells."""
    for code in re.findall(r"`([^`]*)`", repair):
        if code.startswith(("model", "nn.init")):
            exec(code, {"model": model, "nn": nn, "math": math})


@pytest.mark.parametrize("shift", [0.0, 0.8, 5.0, 30.0])
@pytest.mark.parametrize("size", [1e-3, 0.2, 1.0])
def test_a_width_is_for_what_varies_and_the_means_are_to_go_first(shift, size):
    torch.manual_seed(0)
    model = nn.Sequential(*layers(1.0), Shifted(shift, size), *layers(0.02, 1.0))
    x = torch.randn(256, 64)
    found = findings(model, x)["scale.forward-variance"]
    assert ("subtract each input unit's mean" in found.repair) is (shift > 1)
    apply(found.repair, model)
    if "subtract" in found.repair:
        model[1].shift = 0.0
    assert not findings(model, x)


def test_no_width_is_told_for_what_hardly_varies():
    torch.manual_seed(0)
    model = nn.Sequential(*layers(1.0), Shifted(300.0, 1e-3), *layers(0.02, 1.0))
    x = torch.randn(256, 64)
    told = findings(model, x)["scale.forward-variance"].repair
    assert told.startswith(
        "subtract each input unit's mean, or put a batch norm in front of 2.weight"
    )
    assert "normal_" not in told


def test_the_mean_of_what_a_norm_made_is_no_matter_of_the_weights_before_it():
    def net(between):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 64), between, nn.ReLU(), nn.Linear(64, 64))
        model.append(nn.Linear(64, 8))
        return model

    norm = nn.BatchNorm1d(64)
    nn.init.constant_(norm.bias, 3.0)
    x = torch.randn(256, 64)
    told = findings(net(norm), x)["scale.forward-mean"].repair
    assert (
        told == "subtract each input unit's mean, or put a batch norm in front of 3.weight (addmm)"
    )
    plain = net(nn.Identity())
    nn.init.constant_(plain[0].bias, 2.0)
    told = findings(plain, x)["scale.forward-mean"].repair
    assert told.startswith("draw the weights in front of ReLU")


@pytest.mark.parametrize("positions", [1, 16])
def test_a_mean_over_positions_makes_no_means_of_its_own(positions):
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(64, 64), nn.Linear(64, 64)
            nn.init.normal_(self.first.weight, std=math.sqrt(2.934 / 64))
            nn.init.normal_(self.head.weight, std=1 / 8)

        def forward(self, x):
            return self.head(self.first(x).relu().mean(1))

    torch.manual_seed(0)
    model, x = Pooled(), torch.randn(256, positions, 64)
    row = measure_scale((model, x)).rows[-1]
    assert row.input_mean / math.sqrt(row.input_variance) > (2.5 if positions == 16 else 0)
    assert row.apart == pytest.approx(0.68, abs=0.1)  # of a ReLU
    found = findings(model, x)
    assert "scale.forward-mean" not in found
    if "scale.forward-variance" in found:
        apply(found["scale.forward-variance"].repair, model)
    assert not findings(model, x)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.LayerNorm, nn.RMSNorm])
def test_residual_streams_that_norms_are_added_to_are_not_told_to_draw_what_is_before_the_norms(
    kind,
):
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(12))
            self.norms = nn.ModuleList(kind(64) for _ in range(12))
            self.head = nn.Linear(64, 8)

        def forward(self, x):
            for layer, norm in zip(self.layers, self.norms, strict=True):
                x = x + norm(layer(x)).relu()
            return self.head(x)

    torch.manual_seed(0)
    found = findings(Blocks(), torch.randn(256, 64)).get("scale.forward-mean")
    assert found is None or "in front of relu" not in found.repair


def test_a_raw_input_with_means_is_to_be_standardised_and_not_the_weights():
    torch.manual_seed(0)
    model, x = nn.Sequential(*layers(0.5, 2.0)), 3 + 0.3 * torch.randn(256, 64)
    found = findings(model, x)
    for finding in found.values():
        assert finding.repair.startswith("standardise the model's input")
    assert "scale.forward-variance" in found
    assert not findings(model, (x - x.mean(0)) / x.std(0))


def test_two_findings_do_not_set_the_same_weights():
    torch.manual_seed(0)
    stages = [m for _ in range(3) for m in (nn.Linear(64, 64), nn.Sigmoid())]
    model, x = nn.Sequential(*stages, nn.Linear(64, 8)), torch.randn(256, 64)
    found = measure_scale((model, x)).findings
    told = [re.findall(r"nn\.init\.normal_\((\S+),", finding.repair) for finding in found]
    named = [name for names in told for name in names]
    assert len(named) == len(set(named)) > 0
    assert any(
        "first what `scale.forward-variance` says of the same weights" in f.repair for f in found
    )


def test_the_message_names_what_is_repaired():
    torch.manual_seed(0)
    model = nn.Sequential(*layers(1.0, 0.2, 0.2, 1.0, 0.2, 1.0))
    found = findings(model, torch.randn(256, 64))["scale.forward-variance"]
    assert " at 4.weight (addmm)" in found.message
    assert ", the first 1.weight (addmm) (a factor" in found.message
    assert found.module == "1"
    assert "model[1].weight" in found.repair
    assert "for 2 more (2.weight, 4.weight)" in found.repair


class Heads(nn.Module):
    def __init__(self, *stds):
        super().__init__()
        self.trunk = nn.Sequential(*layers(1.0, 1.0, 1.0))
        self.heads = nn.ModuleList(layers(*stds))

    def forward(self, x):
        x = self.trunk(x)
        return [head(x) for head in self.heads]


def test_of_several_small_readouts_the_smallest_is_told_and_no_factor_per_layer():
    torch.manual_seed(0)
    found = findings(Heads(0.1, 0.01, 1.0), torch.randn(256, 64))["scale.forward-variance"]
    assert "at heads.1.weight" in found.message
    assert "per layer" not in found.message
    assert found.module == "heads.1"
    assert "`nn.init.normal_(model.heads[1].weight" in found.repair
    assert found.repair.endswith("for 1 more (heads.0.weight)")


class Pair(nn.Module):
    """An actor and a critic that read the same input and share nothing."""

    def __init__(self, actor, critic):
        super().__init__()
        self.actor, self.critic = nn.Sequential(*actor), nn.Sequential(*critic)

    def forward(self, x):
        return self.actor(x), self.critic(x)


def test_networks_beside_each_other_are_no_chain():
    torch.manual_seed(0)
    x = torch.randn(256, 64)
    alone = nn.Sequential(*layers(0.3, 0.3, 0.3, 1.0))
    torch.manual_seed(0)
    torch.randn(256, 64)
    pair = Pair(layers(0.3, 0.3, 0.3, 1.0), layers(1.0, 1.0, 0.5, 1.0))
    pair.actor.load_state_dict(alone.state_dict())

    def told(model):
        found = findings(model, x)["scale.forward-variance"]
        rate = re.search(r"a factor (\S+) per layer", found.message)
        return rate and rate[1], re.findall(r"\d\.weight", found.repair)

    assert told(pair) == told(alone)
    both = Pair(layers(0.3, 0.3, 0.3, 1.0), layers(0.3, 0.3, 0.3, 1.0))
    found = findings(both, x)["scale.forward-variance"]
    assert "(actor.1.weight, actor.2.weight, critic.0.weight, critic.1.weight" in found.repair
    apply(found.repair, both)
    assert "actor.0" not in findings(both, x)["scale.forward-variance"].message
    back = findings(Pair(layers(1.0, 1.0, 1.0), layers(30.0, 30.0, 1.0)), x)
    assert "critic" in back["scale.forward-variance"].repair
    assert "actor" not in back["scale.forward-variance"].repair


def test_the_names_of_many_are_cut_off():
    torch.manual_seed(0)
    model = nn.Sequential(*layers(*[0.3] * 12))
    told = findings(model, torch.randn(256, 64))["scale.forward-variance"].repair
    assert "for 11 more (1.weight, 2.weight, 3.weight, 4.weight, 5.weight, 6.weight, …)" in told
