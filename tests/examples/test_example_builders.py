"""Every example builds at any sizes, on the CPU and on meta, and learns."""

import pytest
import torch

import assay
from assay.target import builders_in

BUILDERS = {
    "g2p": ("plain", "attention"),
    "recurrent": ("tied_residual", "vanilla", "gru", "lstm", "highway"),
    "residual": ("resnet", "unnormalised"),
}
ALL = [(place, name) for place, names in BUILDERS.items() for name in names]
every_builder = pytest.mark.parametrize(("place", "name"), ALL)


@pytest.fixture
def build(request, place, name):
    return assay.Builder(getattr(request.getfixturevalue(place), name))


@every_builder
def test_a_training_argument_is_not_a_size(build, place):
    sizes = {"g2p": "bnmd", "recurrent": "bnd", "residual": ("b", "d", "depth")}[place]
    assert tuple(build.sizes) == tuple(sizes)


@every_builder
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("step", [0, 1])
def test_runs_forward_and_backward_at_any_sizes(build, device, step):
    # all sizes 1, and then 1, 2, 3… so that no two are equal
    sizes = {size: 1 + step * i for i, size in enumerate(build.sizes)}
    with torch.device(device):
        subject = build(**sizes)
    loss = subject.backward(subject.forward())
    assert loss.device.type == device
    grads = {name: p.grad for name, p in subject.model.named_parameters()}
    assert all(grad is not None for grad in grads.values()), grads.keys()
    if device == "cpu":
        assert bool(loss.isfinite())


@every_builder
def test_building_reads_no_data(build, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the builder read data")

    for module in ("cmudict.read_pronunciations", "fashion_mnist.read_idx"):
        monkeypatch.setattr(f"assay.data.{module}", refuse)
    assert callable(build().examples)
    assert build().fit is not None


@every_builder
def test_the_optimizer_in_use_is_named(build):
    subject = build()
    assert isinstance(subject.optimizer(subject.model), torch.optim.Adam)


def test_listed_builders_are_the_documented_ones(g2p, recurrent, residual):
    for module, place in ((g2p, "g2p"), (recurrent, "recurrent"), (residual, "residual")):
        found = [name for name in builders_in(module) if name in BUILDERS[place]]
        assert found == list(BUILDERS[place])


@pytest.mark.parametrize("name", BUILDERS["recurrent"])
def test_recurrent_models_learn(recurrent, name):
    subject = getattr(recurrent, name)(n=3, d=16)
    examples = recurrent.make_examples((64, 3))
    assert _loss_after(recurrent, subject, examples, steps=20) < 0.98


@pytest.mark.parametrize("name", BUILDERS["residual"])
def test_residual_networks_learn(residual, name):
    labels = torch.arange(64) % 10
    images = (labels.view(-1, 1, 1, 1) > 4) * torch.rand(64, 1, 28, 28)
    subject = getattr(residual, name)(d=4)
    examples = assay.Examples((images,), labels)
    assert _loss_after(residual, subject, examples, epochs=10.0, batch=32) < 0.95


def _loss_after(module, subject, examples, **budget):
    """The loss after training as a part of the loss before, both on the training examples."""

    def loss():
        with torch.no_grad():
            scores = subject.model.train()(*examples.inputs)
        return torch.nn.functional.cross_entropy(scores, examples.targets).item()

    before, told = loss(), []
    module.train(subject.model, examples, lambda *news: told.append(news), **budget)
    assert [(done, total) for _, done, total, _ in told] == [(10, 20), (20, 20)]
    return loss() / before


def test_overwriting_names_the_symbol_written_last(recurrent):
    tokens, written = recurrent.overwriting((50, 9))
    for row, right in zip(tokens.tolist(), written.tolist(), strict=True):
        orders = [token - recurrent.SYMBOLS for token in row if token >= recurrent.SYMBOLS]
        assert orders[-1] == right
    assert int(tokens[:, 0].min()) >= recurrent.SYMBOLS


def test_examples_of_overwriting_are_fixed_and_leave_the_random_state(recurrent):
    state = torch.get_rng_state()
    first, second = recurrent.make_examples((10, 5)), recurrent.make_examples((10, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.inputs[0], second.inputs[0])
    assert not torch.equal(first.inputs[0], first.holdout.inputs[0])


def test_a_closed_highway_keeps_its_state(recurrent):
    cell = recurrent.HighwayCell(3, keep=40.0)
    h = torch.randn(2, 3)
    torch.testing.assert_close(cell(torch.randn(2, 3), h), h)


def test_a_residual_block_without_its_branch_is_the_identity(residual):
    block = residual.Block(3, 3, 1, torch.nn.BatchNorm2d)
    torch.nn.init.zeros_(block.branch[-1].weight)
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(block(x), x)


def test_only_the_normalised_network_normalises(residual):
    kinds = [
        {type(m) for m in f().model.modules()} for f in (residual.resnet, residual.unnormalised)
    ]
    assert [torch.nn.BatchNorm2d in kind for kind in kinds] == [True, False]
