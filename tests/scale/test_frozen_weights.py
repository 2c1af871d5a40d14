"""Frozen weights are somebody's: nobody is told to draw them again."""

import torch
from torch import nn

from assay import measure_scale


def net(std):
    layers = [m for _ in range(3) for m in (nn.Linear(64, 64), nn.ReLU())]
    for layer in layers[::2]:
        nn.init.normal_(layer.weight, std=std)
    return nn.Sequential(*layers)


class Distilled(nn.Module):
    def __init__(self, frozen):
        super().__init__()
        self.teacher, self.student, self.frozen = net(1e-3), net(0.17), frozen
        if frozen == "requires_grad":
            self.teacher.requires_grad_(False)

    def forward(self, x):
        with torch.set_grad_enabled(self.frozen != "no_grad"):
            y = self.teacher(x)
        return self.student(x), y


def test_a_frozen_teacher_is_not_judged_and_a_trained_one_is():
    torch.manual_seed(0)
    x = torch.randn(128, 64)
    for frozen in ("requires_grad", "no_grad"):
        scale = measure_scale((Distilled(frozen), x, lambda y: y[0].square().mean()))
        assert all(row.frozen == ("teacher" in row.name) for row in scale.rows if row.fan_in)
        assert not any(
            "teacher" in f.message + f.repair for f in scale.findings if "init" in f.repair
        )
        assert "are frozen" in scale.view().answer
    scale = measure_scale((Distilled(""), x, lambda y: y[0].mean() + y[1].mean()))
    assert any("teacher" in f.message for f in scale.findings if f.fails)


def test_all_frozen_is_nothing_to_set():
    scale = measure_scale((net(1e-3).requires_grad_(False), torch.randn(128, 64)))
    assert scale.findings == ()
    assert "Nothing to set" in scale.view().answer
    assert "are frozen" in scale.view().answer


def test_the_trained_head_on_a_frozen_trunk_is_judged_by_the_input_that_it_has():
    torch.manual_seed(0)
    model = nn.Sequential(*net(1e-2).requires_grad_(False), nn.Linear(64, 8))
    (finding,) = measure_scale((model, torch.randn(128, 64))).findings
    assert "put a batch norm in front of 6.weight" in finding.repair
    assert "its input has variance" in finding.repair


def test_units_that_are_dead_behind_frozen_weights_are_theirs():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    nn.init.normal_(model[2].weight, std=0.2)
    nn.init.constant_(model[0].bias, -100.0)
    rules = {f.rule for f in measure_scale((model, torch.randn(128, 64))).findings}
    assert "scale.dead-units" in rules
    model[0].requires_grad_(False)
    rules = {f.rule for f in measure_scale((model, torch.randn(128, 64))).findings}
    assert "scale.dead-units" not in rules
