"""Fused kernels: what they keep, what they compute twice, and that torch has its own afterwards."""

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import assay
from assay.cli.cost import cost as command
from assay.cost.fused import fused_kernels
from assay.state import unfused


class Attention(nn.Module):
    """Queries, keys and values from one input; a mask, causal or none."""

    def __init__(self, d: int, mask: str = "", dropout: float = 0.0):
        super().__init__()
        self.project, self.mask, self.dropout = nn.Linear(d, 3 * d), mask, dropout

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.project(x).view(b, n, 3, 4, d // 4).permute(2, 0, 3, 1, 4)
        mask = torch.ones(n, n, dtype=torch.bool).tril() if self.mask == "mask" else None
        causal = self.mask == "causal"
        out = nn.functional.scaled_dot_product_attention(q, k, v, mask, self.dropout, causal)
        return out.transpose(1, 2).reshape(b, n, d)


def attention(b: int = 2, n: int = 8, d: int = 16, *, mask: str = "", dropout: float = 0.0):
    return Attention(d, mask, dropout), torch.randn(b, n, d)


def encoder(b: int = 2, n: int = 8, d: int = 16, depth: int = 2):
    layers = [nn.TransformerEncoderLayer(d, 4, 2 * d, batch_first=True) for _ in range(depth)]
    return nn.Sequential(*layers), torch.randn(b, n, d)


def counted(build, **at):
    with unfused(), fused_kernels("AutogradMeta"), torch.device("meta"):
        model, x = build(**at)
        with FlopCounterMode(display=False) as forward:
            out = model(x).sum()
        with FlopCounterMode(display=False) as backward:
            out.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("mask", ["", "causal", "mask"])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_flops_are_those_of_torchs_counter_on_the_fused_kernels(mask, dropout):
    def build(b: int = 2, n: int = 8, d: int = 16):
        return attention(b, n, d, mask=mask, dropout=dropout)

    cost = assay.derive_fused_cost(build)
    plain = assay.derive_cost(build)
    for b, n, d in [(1, 1, 16), (3, 50, 8), (2, 333, 32), (5, 64, 12)]:
        at = {"b": b, "n": n, "d": d}
        assert (cost.flops.forward(**at), cost.flops.backward(**at)) == counted(build, **at)
        scores = 2 * b * n * n * d  # of one product
        assert cost.flops.forward(**at) == plain.flops.forward(**at)
        assert cost.flops.backward(**at) == plain.flops.backward(**at) + scores
        if mask == "causal":
            hidden = b * n * (n - 1) // 2 * d * 2
            assert cost.masked.forward(**at) == 2 * hidden
            assert cost.masked.backward(**at) == 5 * hidden


def test_attention_keeps_its_inputs_its_output_and_a_number_for_each_query():
    cost = assay.derive_fused_cost(attention)
    b, n, d = 3, 100, 32
    # the input of the projection, its output (three in one storage), the output, one number a head and query
    expected = 4 * (b * n * d + 3 * b * n * d + b * n * d + 4 * b * n)
    assert abs(cost.saved_bytes(b=b, n=n, d=d) - expected) <= 64  # the state of its random numbers
    assert cost.saved_bytes.order == "O(b*d*n)"
    assert assay.derive_cost(attention).saved_bytes.order == "O(b*d*n + b*n**2)"


def test_dropout_keeps_a_byte_for_each_element():
    def dropped(b: int = 2, d: int = 8):
        return nn.Dropout(0.5), torch.randn(b, d).requires_grad_()

    at = {"b": 30, "d": 50}
    assert assay.derive_fused_cost(dropped).saved_bytes(**at) == 30 * 50
    assert assay.derive_cost(dropped).saved_bytes(**at) == 4 * 30 * 50


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_dropout_runs_as_ever(p, training):
    def build(b: int = 2, d: int = 8):
        return nn.Sequential(nn.Linear(d, d), nn.Dropout(p)).train(training), torch.randn(b, d)

    assert str(assay.derive_fused_cost(build).flops.forward) == "2*b*d**2"


def test_torch_has_its_own_kernels_afterwards():
    assay.derive_fused_cost(encoder)
    with torch.device("meta"):
        model, x = encoder()
        with FlopCounterMode(display=False) as counter:
            model(x)
    assert counter.get_total_flops() == assay.derive_cost(encoder).flops.forward(
        b=2, n=8, d=16, depth=2
    )
    named = str(counter.get_flop_counts()["Global"])
    assert "flash" not in named
    assert "efficient" not in named


def test_a_longer_sequence_fits(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\n"
        "def encoder(b: int = 1, n: int = 8, d: int = 16):\n"
        "    return nn.TransformerEncoderLayer(d, 4, 2 * d, batch_first=True), torch.randn(b, n, d)\n"
    )
    longest = []
    for words in ((), ("--fused",)):
        asked = [
            f"{path}:encoder",
            "--solve",
            "n",
            "--fit-memory",
            "10GB",
            "--at",
            "d=64,b=2",
            *words,
        ]
        done = CliRunner().invoke(command, asked, standalone_mode=False, catch_exceptions=False)
        assert ("ask with --fused" in " ".join(done.output.split())) == (not words)
        said = " ".join(done.output.split()).split("at b=2, d=64: ")[1].split()[0]
        longest.append(int(said.replace(",", "")))
    assert longest[1] > 10 * longest[0]


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda: nn.Linear(4, 4), "neither attention nor dropout that --fused could"),
        (lambda: nn.Dropout(0.2), "· Dropout is a single kernel"),
        (lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.0), "· Attention is a single kernel"),
    ],
)
def test_the_notes_are_of_the_kernels_that_the_model_would_call(layer, said):
    def build(n: int = 3):
        return nn.Sequential(nn.Linear(4, 4), layer()), torch.randn(n, 1, 4)

    text = " ".join(str(assay.derive_fused_cost(build)).split())
    assert said in text
    assert text.count("kernel") == 1
