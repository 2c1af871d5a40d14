"""Every kind of layer: its rule, its units, and a slow twin of its arithmetic."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.optim import UnitMuon, UnitSGD
from assay.optim.unit_sgd import gain

MAKERS = [UnitSGD, UnitMuon]
DOUBLE = torch.float64


def steps(model, make, x, *, change=lambda u: u, n=4, options=None):
    """Train on the sum of squares of a fixed target, and return outputs after every step."""
    optimizer = make(model, **(options or {}))
    found = []
    for _ in range(n):
        optimizer.zero_grad()
        u = change(model(x))
        target = torch.linspace(-1, 1, u.numel(), dtype=u.dtype).view_as(u)
        (u - target).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            found.append(change(model(x)).detach().clone())
    return torch.stack(found), optimizer


class Net(nn.Module):
    """A layer between others: what comes out of it can be rescaled, and read by the next."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers).to(DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def images(channels: int = 2) -> Tensor:
    return torch.randn(6, channels, 6, 6, dtype=DOUBLE) * 2 + 1


CONVOLUTIONS = {
    "plain": (nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 3)),
    "padded and strided": (nn.Conv2d(2, 4, 3, padding=1, stride=2), nn.Conv2d(4, 2, 2)),
    "grouped": (nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 2, 3, groups=2)),
    "depthwise": (nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, groups=4)),
    "transposed": (nn.ConvTranspose2d(2, 4, 3), nn.ConvTranspose2d(4, 2, 2, stride=2)),
    "transposed, grouped": (
        nn.ConvTranspose2d(2, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 6, 3, groups=2),
    ),
    "reflecting": (nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"), nn.Conv2d(4, 2, 3)),
}


@torch.no_grad()
def rescale_channels(writer: nn.Module, reader: nn.Module, c: Tensor) -> None:
    """What `writer` writes times c, and `reader`, reading c times as much, divided."""
    axes = [1] * (writer.weight.dim() - 2)
    if getattr(writer, "transposed", False):
        g = writer.groups
        per_group = c.view(g, -1)
        blocks = writer.weight.view(g, -1, *writer.weight.shape[1:])
        blocks.mul_(per_group.view(g, 1, -1, *axes))
    else:
        writer.weight.mul_(c.view(-1, 1, *axes))
    writer.bias.mul_(c)
    if getattr(reader, "transposed", False):
        reader.weight.div_(c.view(-1, 1, *axes))
    else:
        g = getattr(reader, "groups", 1)
        blocks = reader.weight.view(g, -1, *reader.weight.shape[1:])
        blocks.div_(c.view(g, 1, -1, *axes))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_channels_of_convolutions_have_no_unit(kind, make):
    writer, reader = (copy.deepcopy(m) for m in CONVOLUTIONS[kind])
    one = Net(writer, nn.ReLU(), reader)
    other = copy.deepcopy(one)
    rescale_channels(
        other.layers[0], other.layers[2], torch.tensor([2.0, 0.5, 8.0, 1.0], dtype=DOUBLE)
    )
    x = images()
    mine, optimizer = steps(one, make, x)
    theirs, _ = steps(other, make, x)
    assert torch.equal(mine, theirs)
    assert not any(rule.fallback for rule in optimizer.rules)
    assert not torch.equal(mine[0], mine[-1])


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolutions_of_every_dimension_take_up_shifts_where_nothing_is_padded(dims):
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    one = Net(conv(2, 4, 2), nn.ReLU(), conv(4, 1, 2))
    other = copy.deepcopy(one)
    shift = torch.tensor([3.0, -2.0], dtype=DOUBLE)
    with torch.no_grad():
        first = other.layers[0]
        first.bias.sub_(first.weight.flatten(2).sum(2) @ shift)
    x = torch.randn(4, 2, *[4] * dims, dtype=DOUBLE)
    mine, _ = steps(one, UnitSGD, x)
    theirs, _ = steps(other, UnitSGD, x + shift.view(-1, *[1] * dims))
    assert torch.allclose(mine, theirs, rtol=1e-11, atol=1e-13)


class Words(nn.Module):
    def __init__(self, sparse: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 4, sparse=sparse, dtype=DOUBLE)
        self.read = nn.Linear(4, 2, dtype=DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        return self.read(self.table(x))


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("sparse", [False, True])
def test_coordinates_of_embeddings_have_no_unit(sparse, make):
    one = Words(sparse)
    other = copy.deepcopy(one)
    c = torch.tensor([4.0, 0.5, 1.0, 64.0], dtype=DOUBLE)
    with torch.no_grad():
        other.table.weight.mul_(c)
        other.read.weight.div_(c)
    x = torch.tensor([[1, 2, 2], [5, 1, 8]])
    absent = one.table.weight[[0, 3]].detach().clone()
    mine, optimizer = steps(one, make, x)
    assert torch.equal(mine, steps(other, make, x)[0])
    assert torch.equal(one.table.weight[[0, 3]], absent)
    assert not any(rule.fallback for rule in optimizer.rules)


def test_rare_tokens_move_as_far_as_common_ones():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(3, 8), nn.Linear(8, 1))
    first = model[0].weight.detach().clone()
    optimizer = UnitSGD(model)
    x = torch.tensor([0] * 100 + [1])
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    moved = (model[0].weight - first).norm(dim=1)
    assert 0.3 < moved[1] / moved[0] < 3
    assert moved[2] == 0


@pytest.mark.parametrize("make", MAKERS)
def test_values_of_attention_have_no_unit_and_take_up_shifts(make):
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True, dtype=DOUBLE)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    one = Attend()
    with torch.no_grad():
        one.attention.in_proj_bias.normal_()
    other = copy.deepcopy(one)
    c = torch.tensor([4.0, 0.5, 1.0, 64.0], dtype=DOUBLE)
    with torch.no_grad():
        other.attention.in_proj_weight[8:].mul_(c[:, None])
        other.attention.in_proj_bias[8:].mul_(c)
        other.attention.out_proj.weight.div_(c)
    x = torch.randn(3, 5, 4, dtype=DOUBLE) + 1
    mine, optimizer = steps(one, make, x)
    assert torch.equal(mine, steps(other, make, x)[0])
    assert not any(rule.fallback for rule in optimizer.rules)
    moved = copy.deepcopy(one)
    a = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=DOUBLE)
    with torch.no_grad():
        moved.attention.in_proj_bias.sub_(moved.attention.in_proj_weight @ a)
    again, _ = steps(one, make, x)
    assert torch.allclose(again, steps(moved, make, x + a)[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    "layer",
    [
        nn.RNN(3, 4, num_layers=2),
        nn.GRU(3, 4, bidirectional=True),
        nn.LSTM(3, 4, num_layers=2, proj_size=2),
        nn.GRU(3, 4, bias=False),
        nn.RNNCell(3, 4),
        nn.GRUCell(3, 4),
        nn.LSTMCell(3, 4),
        nn.RNNCell(3, 4, nonlinearity="relu"),
    ],
    ids=lambda m: repr(m).replace(" ", ""),
)
def test_inputs_of_recurrent_layers_have_no_unit(layer, make):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = copy.deepcopy(layer).to(DOUBLE)

        def forward(self, x: Tensor) -> Tensor:
            if isinstance(self.layer, nn.RNNBase):
                return self.layer(x)[0]
            state = None
            for step in x.unbind(0):
                state = self.layer(step, state)
            return state[0] if isinstance(state, tuple) else state

    one = Recurrent()
    other = copy.deepcopy(one)
    c = torch.tensor([4.0, 0.5, 64.0], dtype=DOUBLE)
    with torch.no_grad():
        for name, p in other.layer.named_parameters():
            if name.startswith("weight_ih") and p.shape[1] == 3:
                p.div_(c)
    x = torch.randn(5, 6, 3, dtype=DOUBLE) * 2 + 1
    mine, optimizer = steps(one, make, x)
    assert torch.equal(mine, steps(other, make, x * c)[0])
    assert not any(rule.fallback for rule in optimizer.rules)
    first = dict(layer.to(DOUBLE).named_parameters())
    assert all(not torch.equal(p, first[name]) for name, p in one.layer.named_parameters())


def test_packed_sequences():
    model = nn.GRU(3, 4)
    optimizer = UnitSGD(model)
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(5, 3, 3), [5, 3, 2])
    model(packed)[0].data.square().sum().backward()
    optimizer.step()
    assert float(optimizer.state[model.weight_ih_l0]["count"]) == 10


def test_states_of_a_relu_recurrence_are_said_to_be_unseen():
    with pytest.warns(UserWarning, match="weight_hh_l0"):
        UnitSGD(nn.RNN(3, 4, nonlinearity="relu"))


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4), nn.RMSNorm(4)]
)
def test_what_norms_write_has_no_unit(norm):
    one = Net(nn.Linear(3, 4), copy.deepcopy(norm), nn.ReLU(), nn.Linear(4, 2))
    other = copy.deepcopy(one)
    c = torch.tensor([4.0, 0.5, 1.0, 64.0], dtype=DOUBLE)
    with torch.no_grad():
        for p in other.layers[1].parameters():
            p.mul_(c)
        other.layers[3].weight.div_(c)
    x = torch.randn(8, 3, dtype=DOUBLE)
    mine, optimizer = steps(one, UnitSGD, x)
    assert torch.equal(mine, steps(other, UnitSGD, x)[0])
    assert not any(rule.fallback for rule in optimizer.rules)
    assert not torch.equal(one.layers[1].weight, norm.weight)


def test_conv1d_of_transformers_is_a_linear_layer():
    pytorch_utils = pytest.importorskip("transformers.pytorch_utils")
    conv = pytorch_utils.Conv1D(4, 3).to(DOUBLE)
    linear = nn.Linear(3, 4, dtype=DOUBLE)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.t())
        linear.bias.copy_(conv.bias)
    x = torch.randn(6, 3, dtype=DOUBLE)
    mine, optimizer = steps(conv, UnitSGD, x)
    assert torch.allclose(mine, steps(linear, UnitSGD, x)[0], rtol=1e-12)
    assert not any(rule.fallback for rule in optimizer.rules)


def test_a_layer_that_is_used_twice_pools_its_inputs():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3, dtype=DOUBLE)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x).relu())

    model = Twice()
    x = torch.randn(5, 3, dtype=DOUBLE)
    with torch.no_grad():
        both = torch.cat([x, model.layer(x).relu()])
    _, optimizer = steps(model, UnitSGD, x, n=1)
    assert torch.allclose(optimizer.state[model.layer.weight]["mean"][0], both.mean(0))


def test_tied_weights():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.head.weight = self.table.weight
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.b(self.a(self.table(x)).relu()))

    model = Tied()
    with pytest.warns(UserWarning, match=r"a\.bias, b\.bias"):
        optimizer = UnitSGD(model)
    listed = {rule.parameter: rule for rule in optimizer.rules}
    assert "tied (table, head), read as an embedding" in listed["table.weight"].rule
    assert "tied (a, b)" in listed["a.weight"].rule
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = [p.detach().clone() for p in model.parameters()]
        for _ in range(2):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.tensor([1, 2, 3])), torch.tensor([2, 3, 4])).backward()
            optimizer.step()
    assert all(not torch.equal(a, b) for a, b in zip(first, model.parameters(), strict=True))


def test_computed_weights_fall_back():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    with pytest.warns(UserWarning, match="original0"):
        optimizer = UnitSGD(model)
    assert any(rule.fallback for rule in optimizer.rules)


def slowly(W, b, grads, mean, scale, lr, beta, keep=0.99):
    """The rule of UnitSGD's docstring, one output at a time, on fixed statistics."""
    W, b = W.clone(), b.clone()
    m, mb = torch.zeros_like(W), torch.zeros_like(b)
    row = torch.zeros(len(W), dtype=W.dtype)
    for t, (G, g) in enumerate(grads, start=1):
        m, mb = beta * m + (1 - beta) * G, beta * mb + (1 - beta) * g
        for i in range(len(W)):
            now = (
                sum(((G[i, j] - g[i] * mean[j]) / scale[j]) ** 2 for j in range(len(mean)))
                + g[i] ** 2
            )
            row[i] += (now - row[i]) * (1 - keep) / (1 - keep**t)
            size = (W[i] * scale).norm()
            rate = lr * size / row[i].sqrt() * GAIN / (1 - beta**t)
            step = rate * (m[i] - mb[i] * mean) / scale / scale
            W[i] -= step
            b[i] += (step * mean).sum() - rate * mb[i]
    return W, b


GAIN = gain(0.9, 1)


def test_steps_of_a_linear_layer_are_those_of_the_formula():
    torch.manual_seed(0)
    model = nn.Linear(3, 2, dtype=DOUBLE)
    x = torch.randn(64, 3, dtype=DOUBLE) * torch.tensor([1.0, 10.0, 0.1]) + 3
    mean = x.mean(0)
    scale = (x - mean).pow(4).mean(0).pow(0.25)
    W, b = model.weight.detach().clone(), model.bias.detach().clone()
    optimizer, grads = UnitSGD(model), []
    for t in range(4):
        optimizer.zero_grad()
        (model(x) - x[:, :2] * (t + 1)).square().mean().backward()
        grads.append((model.weight.grad.clone(), model.bias.grad.clone()))
        optimizer.step()
    W, b = slowly(W, b, grads, mean, scale, 0.01, 0.9)
    assert torch.allclose(model.weight, W, rtol=1e-10)
    assert torch.allclose(model.bias, b, rtol=1e-10)
