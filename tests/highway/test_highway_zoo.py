"""Models that the code was not built on: which skip paths they have, and which they have not."""

import pytest
import torch
import zoo_in_time  # noqa: F401  fills the zoo
from roads import ZOO, D, Written, measured, rows, series, shapes, stack
from torch import nn
from torch.nn import functional as F
from zoo_in_depth import conv, images

import assay


@pytest.mark.parametrize("name", ZOO)
def test_skip_paths_of_the_zoo(name):
    build, expected = ZOO[name]
    made = build()
    model, *inputs = made if isinstance(made, tuple) else (made,)
    highways = measured(model, *inputs)
    assert shapes(highways) == expected
    assert highways.opaque == ()
    for path in highways.paths:
        assert len(path.modules) == path.length
        assert path.gradient[0] == 1
        assert path.retention == path.gradient[-1] > 0
        assert path.half_life > 0


def kinds(highways):
    return [(p.kind, p.length) for p in highways.paths for _ in range(p.count)]


def test_dense_blocks_concatenate():
    def forward(m, x):
        for layer in m.layers:
            x = torch.cat((x, torch.relu(layer(x))), 1)
        return x

    model = Written(forward, layers=nn.ModuleList(conv(4 + 2 * i, 2) for i in range(5)))
    highways = measured(model, images())
    assert kinds(highways) == [("concatenation", 5)]
    assert not highways.longest.is_sum
    assert "5 concatenations" in str(highways)


def test_a_unet_concatenates_across_scales():
    def forward(m, x):
        a = torch.relu(m.enter(x))
        b = torch.relu(m.down(F.max_pool2d(a, 2)))
        up = F.interpolate(b, scale_factor=2)
        return m.leave(torch.relu(m.up(torch.cat((a, up), 1))))

    parts = {"enter": conv(1, 4), "down": conv(4, 8), "up": conv(12, 4), "leave": conv(4, 1)}
    highways = measured(Written(forward, **parts), images(1))
    assert kinds(highways) == [("concatenation", 1)]
    assert "The longest skip path: 1 concatenation at" in str(highways)


def test_sequences_put_side_by_side_are_no_skip():
    model = Written(lambda m, x: m.f(torch.cat((x, torch.tanh(m.f(x))), 1)), f=nn.Linear(D, D))
    assert kinds(measured(model, series())) == []


def test_what_lies_on_the_first_resnets_skip():
    (path,) = measured(*ZOO["resnet_with_projections"][0]()).paths
    assert path.activation_on_skip
    assert path.projections == 2
    assert path.kind == "identity, 2 projected, rectifier on the skip"


def test_equal_single_additions_are_one_row():
    def forward(m, x):
        return x + torch.tanh(m.f(x))

    model = nn.Sequential(
        *[
            m
            for _ in range(3)
            for m in (Written(forward, f=nn.Linear(D, D)), nn.Linear(D, D), nn.Tanh())
        ]
    )
    (path,) = measured(model, rows()).paths
    assert (path.length, path.count) == (1, 3)
    assert "3 skip paths" in str(measured(model, rows()))
    assert "(×3)" in str(measured(model, rows()))


def test_more_paths_than_are_measured_are_still_listed():
    model = Written(
        lambda m, *xs: sum(f(x).relu().sum() for f, x in zip(m.all, xs, strict=True)),
        all=nn.ModuleList(stack(lambda: ZOO["residual_mlp"][0]()[0][0], 2) for _ in range(26)),
    )
    highways = measured(model, *(rows() for _ in range(26)))
    assert [bool(p.gradient) for p in highways.paths] == [True] * 24 + [False] * 2
    assert "24 longest paths" in str(highways)
    assert highways.view().blocks[-1].rows[-1][-2] == "not measured"


def test_the_line_is_the_one_of_the_addition():
    model, x = ZOO["residual_mlp"][0]()
    (path,) = measured(model, x).paths
    assert path.where.file.endswith("roads.py")
    assert "x + scale * torch.tanh(m.f(x))" in path.where.code
    assert path.modules == tuple("012345")


EXAMPLES = {
    "recurrent.py:tied_residual": [(9, True, None, False)],
    "recurrent.py:vanilla": [],
    "recurrent.py:gru": [(9, True, "data", False)],
    "recurrent.py:lstm": [(9, True, "data", False)],
    "recurrent.py:highway": [(9, True, "data", False)],
    "residual.py:resnet": [(3, False, None, False)],
    "residual.py:unnormalised": [(3, False, None, False)],
    "g2p.py:plain": [(9, True, "data", False)] * 3,
    "g2p.py:attention": [(9, True, "data", False)] * 3,
}


@pytest.mark.parametrize("target", EXAMPLES)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_examples(target, device, pytestconfig):
    build = assay.load(str(pytestconfig.rootpath / "examples" / target))
    sizes = {name: 9 for name in ("n", "m") if name in build.sizes}
    with torch.device(device):
        highways = assay.find_highways(build(b=2, **sizes))
    assert shapes(highways) == EXAMPLES[target]
    assert all(bool(path.gradient) == (device == "cpu") for path in highways.paths)
