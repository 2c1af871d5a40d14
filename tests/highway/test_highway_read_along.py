"""A gate that forgets matters where the loss reads the end alone, and less where it reads every state."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import assay
from assay import Subject

STEPS, WIDTH = 20, 16
ALONG = {
    "every step": lambda h: h,
    "their mean": lambda h: h.mean(1),
    "their maximum": lambda h: h.amax(1),
    "every fourth": lambda h: h[:, 3::4],
}
AT_THE_END = {"the last": lambda h: h[:, -1], "the last two": lambda h: h[:, -2:]}


class Reader(nn.Module):
    def __init__(self, make, read, layers=1):
        super().__init__()
        self.cell = make(8, WIDTH, num_layers=layers, batch_first=True)
        self.head, self.read = nn.Linear(WIDTH, 3), read

    def forward(self, x):
        return self.head(self.read(self.cell(x)[0]))


def severities(make, read, layers=1):
    torch.manual_seed(0)
    model = Reader(make, read, layers)
    x = torch.randn(4, STEPS, 8)
    found = assay.find_highways(Subject(model, x, loss=lambda u: u.square().mean())).findings
    assert {f.rule for f in found} == {"highway.short-memory"}
    return [f.severity for f in found]


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("make", [nn.GRU, nn.LSTM])
def test_a_gate_that_forgets_is_a_note_where_the_states_are_read_and_else_a_warning(make, layers):
    for name, read in ALONG.items():
        assert severities(make, read, layers) == ["note"] * layers, name
    for name, read in AT_THE_END.items():
        assert severities(make, read, layers) == ["warning"] * layers, name


def test_a_padded_tagger_is_a_note_in_both_directions():
    """The last states are padding, and have no gradient; those before have their own."""

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(100, 8, padding_idx=0)
            self.cell = nn.LSTM(8, 16, batch_first=True, bidirectional=True)
            self.tags = nn.Linear(32, 7)

        def forward(self, x):
            return self.tags(self.cell(self.words(x))[0])

    torch.manual_seed(0)
    x = torch.randint(1, 100, (8, STEPS))
    y = x % 7
    x[:, 15:], y[:, 15:] = 0, -100
    loss = lambda u: F.cross_entropy(u.flatten(0, 1), y.flatten(), ignore_index=-100)  # noqa: E731
    findings = assay.find_highways(Subject(Tagger(), x, loss=loss)).findings
    assert [f.severity for f in findings] == ["note", "note"]
    assert len({f.repair for f in findings}) == 2  # each with its own line


def test_a_gate_that_keeps_for_a_fifth_of_the_path_is_a_warning_where_the_end_is_read():
    """Most states then have a gradient of some size, but all of it comes from the end."""

    class Leaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.make = nn.Linear(8, 8)
            self.keep = nn.Parameter(torch.full((8,), 0.5 ** (1 / 8)))

        def forward(self, x):
            state = x.new_zeros(len(x), 8)
            for step in x.unbind(1):
                state = self.keep * state + (1 - self.keep) * self.make(step)
            return state

    torch.manual_seed(0)
    subject = Subject(Leaky(), torch.randn(4, 40, 8), loss=lambda u: u.square().mean())
    (finding,) = assay.find_highways(subject).findings
    assert (finding.rule, finding.severity) == ("highway.short-memory", "warning")


def test_what_arrives_is_the_gradient_of_the_loss_at_every_state():
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.new = nn.Linear(16, 8), nn.Linear(16, 8)
            self.states = []

        def forward(self, x):
            state, self.states = torch.zeros(len(x), 8), []
            for step in x.unbind(1):
                both = torch.cat((step, state), -1)
                z = self.gate(both).sigmoid()
                state = z * state + (1 - z) * self.new(both).tanh()
                self.states.append(state)
            return torch.stack(self.states, 1)

    torch.manual_seed(0)
    model, x = Cell(), torch.randn(4, 12, 8)
    target = torch.randn(4, 12, 8)
    loss = lambda u: F.mse_loss(u, target)  # noqa: E731
    (path,) = assay.find_highways(Subject(model, x, loss=loss)).paths
    gradients = torch.autograd.grad(loss(model(x)), model.states)
    norms = [float(g.norm()) for g in reversed(gradients)]
    assert path.arriving[: len(norms)] == pytest.approx([n / max(norms) for n in norms], rel=1e-4)
