"""The whole report on a real model, with nothing stood in for: what was given comes back as it was."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from assay.reporting.report import report
from assay.subject import Subject

SCHEMA = Path(__file__).parents[2] / "docs" / "result.schema.json"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(4), nn.Dropout(0.1)
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.drop(x + self.body(self.norm(x)).relu()))


def _snapshot(model, x):
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "same": [id(p.grad) for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()],
        "needs": [p.requires_grad for p in model.parameters()],
        "input": x.clone(),
        "random": (random.getstate(), torch.get_rng_state()),
        "numpy": list(np.random.get_state()[1]),
    }


def test_a_real_report_changes_nothing_and_follows_its_schema():
    import jsonschema

    model, x = Net(), torch.randn(8, 4)
    model.body.eval()
    model.head.bias.requires_grad_(False)
    model.body.register_forward_hook(lambda *_: None)
    model(x).square().sum().backward()
    examples = torch.randn(20, 4), torch.randint(2, (20,))
    subject = Subject(
        model,
        x,
        loss=lambda y: y.logsumexp(-1).mean(),
        examples=examples,
        optimizer=lambda net: torch.optim.AdamW(net.parameters(), lr=1e-3),
    )
    before = _snapshot(model, x)
    made = report(subject)
    torch.testing.assert_close(_snapshot(model, x), before, rtol=0, atol=0)
    assert {one.name: one.status for one in made.sections if one.status != "measured"} == {}
    jsonschema.validate(json.loads(made.to_json()), json.loads(SCHEMA.read_text()))
    assert json.loads(made.to_sarif())["version"] == "2.1.0"
