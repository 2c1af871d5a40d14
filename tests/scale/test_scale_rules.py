"""What is found, what is not, and what the reader is told."""

import json
import math

import pytest
import torch
from scale_models import CentredReLU, ConvNet, LogOfNegative, centred, kaiming, mlp
from torch import nn

from assay import measure_scale
from assay.scale.band import outside, severity
from assay.scale.nonfinite import Origin
from assay.scale.repairs import expression, price, repair_all, repair_one
from assay.scale.rules import find
from assay.subject import Subject


def rules(scale):
    return {f.rule: f for f in scale.findings}


def test_default_initialisation_of_a_deep_relu_network_vanishes():
    scale = measure_scale((mlp(10, 64), torch.randn(256, 64)))
    found = rules(scale)
    forward, backward = found["scale.forward-variance"], found["scale.backward-variance"]
    assert forward.severity == backward.severity == "warning"
    assert forward.measured.value < 1e-6
    assert backward.measured.value < 1e-6
    assert forward.message.count("10 of 11") == 1
    assert "std=math.sqrt(2/64)" in forward.repair  # χ^10 is too much: the mean square it is
    assert "(2.934/fan-in; subtract 0.6833 after ReLU)" in forward.repair
    assert "χ^10 = 46.1" in forward.repair
    assert len([f for f in scale.findings if f.rule == "scale.forward-variance"]) == 1


def test_the_repair_that_is_printed_repairs():
    torch.manual_seed(3)
    model = mlp(4, 256, activation=CentredReLU)
    x = torch.randn(1024, 256)
    before = rules(measure_scale((model, x)))["scale.forward-variance"]
    line = before.repair.split(";")[0]
    assert line.startswith("`nn.init.normal_(model[0].weight")
    with torch.no_grad():
        for i in (0, 2, 4, 6):
            exec(
                line.strip("`").replace("model[0]", f"model[{i}]"),
                {"nn": nn, "math": math, "model": model},
            )
            model[i].bias.zero_()
    after = measure_scale((model, x))
    assert "scale.forward-variance" not in rules(after)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.SiLU])
def test_the_repair_that_is_printed_for_a_deep_network_repairs_both_ways(activation):
    torch.manual_seed(4)
    model, x = mlp(24, 256, activation), torch.randn(256, 256)
    line = rules(measure_scale((model, x)))["scale.forward-variance"].repair.split(";")[0]
    with torch.no_grad():
        for i in range(0, 49, 2):
            exec(
                line.strip("`").replace("model[0]", f"model[{i}]"),
                {"nn": nn, "math": math, "model": model},
            )
            model[i].bias.zero_()
    after = measure_scale((model, x))
    # means are its price: uncentred, the units of a deep ReLU network look alike
    assert not any(f.fails for f in after.findings if f.rule != "scale.forward-mean")
    squares = [row.second_moment for row in after.rows if row.kind == "product"]
    assert 0.05 < min(squares[:-1]) < max(squares[:-1]) < 20


def test_kaiming_initialisation_gives_no_warning_at_ten_layers():
    scale = measure_scale((mlp(10, 64, init=kaiming), torch.randn(256, 64)))
    assert not any(f.fails for f in scale.findings)
    mean = rules(scale)["scale.forward-mean"]
    assert mean.measured.value > 1
    assert "subtract 0.6833 after ReLU" in mean.repair


def test_centred_gains_are_clean_and_their_price_is_named_when_deep():
    x = torch.randn(512, 256)
    assert measure_scale((mlp(4, 256, CentredReLU, centred), x)).findings == ()
    (finding,) = measure_scale((mlp(20, 256, CentredReLU, centred), x)).findings
    assert finding.rule == "scale.backward-variance"
    assert "χ^20 = 2.13e+03" in finding.repair


def test_bounded_activations_are_repaired_by_an_output_gain():
    found = rules(measure_scale((mlp(8, 64, activation=nn.Tanh), torch.randn(256, 64))))
    assert "multiply the output of Tanh by 1.593" in found["scale.forward-variance"].repair
    found = rules(measure_scale((mlp(8, 64, activation=nn.Sigmoid), torch.randn(256, 64))))
    assert "and subtract 2.401" in found["scale.forward-variance"].repair


def test_unstandardised_inputs_are_named_as_the_cause():
    scale = measure_scale((mlp(2, 32, init=kaiming), 255 * torch.rand(64, 32)))
    finding = rules(scale)["scale.forward-variance"]
    assert "grows" in finding.message
    assert "standardise it" in finding.message


def test_uncentred_inputs_are_named():
    scale = measure_scale((mlp(1, 64, init=kaiming), torch.randn(64, 64) * 0.2 + 1))
    finding = rules(scale)["scale.forward-mean"]
    assert finding.severity == "warning"
    assert "standardise the model's input" in finding.repair


def test_dead_units_are_counted():
    model = mlp(1, 16, init=kaiming)
    with torch.no_grad():
        model[0].bias[:12] = -100.0
    finding = rules(measure_scale((model, torch.randn(64, 16))))["scale.dead-units"]
    assert finding.measured.value == 12
    assert finding.severity == "warning"


def test_the_first_operator_that_makes_nan_is_named():
    scale = measure_scale((LogOfNegative(), torch.randn(5, 4)))
    (finding,) = scale.findings
    assert finding.severity == "error"
    assert finding.rule == "scale.non-finite"
    assert finding.where.code == "x = torch.log(x)  # NaN is made here"
    assert "log" in finding.message
    assert "NaN or infinite" in scale.view().answer
    json.dumps(scale.to_dict())


def test_a_gradient_that_is_not_finite_is_named():
    class Root(nn.Linear):
        def forward(self, x):
            return torch.sqrt(torch.relu(super().forward(x)))

    (finding,) = measure_scale((Root(3, 3), torch.randn(8, 3))).findings
    assert finding.rule == "scale.non-finite"
    assert "gradient" in finding.message


def test_an_additive_mask_of_minus_infinity_is_no_failure():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    scale = measure_scale(Subject(layer, torch.randn(4, 6, 16), kwargs={"src_mask": mask}))
    assert not any(f.fails for f in scale.findings)


def test_scale_before_a_norm_has_no_effect_and_is_said_so():
    model = ConvNet()
    nn.init.normal_(model.stem.weight, std=1e-3)
    scale = measure_scale((model, torch.randn(8, 1, 10, 10)))
    assert not any(f.fails for f in scale.findings)
    assert "no effect" in rules(scale)["scale.no-effect"].message
    stem = next(row for row in scale.rows if row.parameters == ("stem.weight",))
    assert stem.normalised
    assert "norm: no effect" in str(scale.view().blocks[1])


def test_zero_initialised_branches_and_heads_are_a_choice():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.out, self.head = (nn.Linear(32, 32) for _ in range(3))
            nn.init.normal_(self.first.weight, std=32**-0.5)
            for layer in (self.out, self.head):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

        def forward(self, x):
            x = self.first(x)
            return self.head(x + self.out(torch.relu(x)))

    scale = measure_scale((Residual(), torch.randn(64, 32)))
    assert scale.findings == ()
    assert "do not vary between samples" in str(scale)


def test_a_branch_beside_a_larger_signal_does_not_set_the_scale():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.small = nn.Linear(32, 32)
            nn.init.normal_(self.small.weight, std=1e-4)

        def forward(self, x):
            return x + self.small(x)

    scale = measure_scale((Residual(), torch.randn(64, 32)))
    assert scale.rows[0].beside_larger
    assert scale.findings == ()
    assert "Nothing to set" in scale.view().answer


def test_a_gate_is_no_signal():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.value = nn.Linear(32, 32), nn.Linear(32, 32)
            nn.init.normal_(self.gate.weight, std=1e-4)
            nn.init.normal_(self.value.weight, std=32**-0.5)

        def forward(self, x):
            return torch.sigmoid(self.gate(x)) * self.value(x)

    scale = measure_scale((Gated(), torch.randn(64, 32)))
    assert scale.rows[0].gate
    assert scale.rows[0].activation == "sigmoid"
    assert scale.findings == ()


def test_one_example_and_equal_examples_are_said_not_judged():
    one = measure_scale((mlp(2, 8, init=kaiming), torch.randn(1, 8)))
    assert one.rows[0].variance is None
    assert "Give a batch of two" in str(one)
    equal = measure_scale((mlp(2, 8), torch.ones(40, 8)))
    assert equal.findings == ()
    assert "do not vary" in str(equal)


def test_a_tied_branch_that_grows_is_told_to_shrink():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.f = nn.Linear(16, 16)
            nn.init.eye_(self.f.weight)

        def forward(self, h):
            for _ in range(12):
                h = h + self.f(h)
            return h

    scale = measure_scale((Loop(), torch.randn(40, 16)))
    finding = next(f for f in scale.findings if "12 calls" in f.message)
    assert finding.severity == "warning"
    assert "by 1/12" in finding.repair


def test_bands():
    assert not outside(1.0)
    assert not outside(0.0)
    assert not outside(math.nan)
    assert outside(11.0)
    assert outside(0.05)
    assert severity(0.01) == "note"
    assert severity(1e4) == severity(1e-4) == "warning"


def test_repairs_of_single_rows():
    table = nn.Embedding(50, 8)
    nn.init.normal_(table.weight, std=0.02)
    scale = measure_scale((table, torch.arange(50)))
    assert repair_one(scale.rows[0]).text == "`nn.init.normal_(model.weight, std=1.0)`"
    assert repair_all(scale.rows).text == "`nn.init.normal_(model.weight, std=1.0)`"
    assert price(scale.rows[0], 5) == 1.0
    scale = measure_scale((nn.Linear(8, 8), 10 * torch.randn(50, 8)))
    assert "its input has variance" in repair_one(scale.rows[0]).text
    assert expression("net.0.weight") == "model.net[0].weight"


def test_normalised_operators_are_compared_by_relative_gradients():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(40))

        def forward(self, x):
            for layer in self.layers:
                x = torch.relu(nn.functional.layer_norm(layer(x), (64,)) - 1)
            return x

    scale = measure_scale((Deep(), torch.randn(64, 64)))
    finding = rules(scale)["scale.backward-variance"]
    assert finding.repair.startswith("add skip connections")


@pytest.mark.parametrize("origin", [None, Origin("log", "", None, 1, 2)])
def test_nothing_measured_nothing_found(origin):
    assert len(find((), origin)) == (origin is not None)


def test_the_report_reads_expected_beside_measured():
    scale = measure_scale((mlp(10, 64), torch.randn(256, 64)))
    view = scale.view()
    assert view.answer.startswith("No: of 11 operators with weights, 11 set the scale")
    picture, table = view.blocks
    assert picture.log_y
    assert picture.band == (0.1, 10.0)
    assert [s.name for s in picture.series if s.style == "dashed"] == ["expected forward"]
    assert all(len(row) == len(table.columns) for row in table.rows)
    text = str(scale)
    assert "training mode" in text
    assert "random signs" in text
    row = scale.rows[0]
    assert (row.expected_mean, row.expected_variance) == (0.0, 1.0)
    assert json.loads(json.dumps(scale.to_dict()))["rows"][0]["fan_in"] == 64


def test_growth_until_it_overflows_is_told_with_its_repair():
    torch.manual_seed(0)
    layers = [nn.Linear(100, 100) for _ in range(50)]
    for layer in layers:
        nn.init.normal_(layer.weight, std=1.0)
    net = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))
    findings = {f.rule: f for f in measure_scale((net, torch.randn(64, 100))).findings}
    assert findings.keys() == {"scale.non-finite", "scale.forward-variance"}
    assert findings["scale.forward-variance"].module == "0"
    assert "grows" in findings["scale.forward-variance"].message
    assert findings["scale.forward-variance"].repair in findings["scale.non-finite"].repair


def test_a_root_of_a_negative_number_is_no_growth():
    class Root(nn.Module):
        def forward(self, x):
            return x.sqrt()

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 32), Root(), nn.Linear(32, 4))
    (finding,) = measure_scale((net, torch.randn(64, 32))).findings
    assert finding.rule == "scale.non-finite"
    assert "clamp it" in finding.repair
