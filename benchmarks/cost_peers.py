"""What other counters say: flops of a forward pass as a ratio to a truth derived by hand.

Each model stands beside its truth: two flops for a multiplication with its addition, of matrix products and
convolutions alone, written down from the architecture and not from any counter. Attention is counted in
full, also where it is causal. Models are in eval mode and under no_grad, on the CPU, with the kernels that
torch chooses.

FlopCounterMode and calflops count flops; fvcore, ptflops, thop and torchinfo count multiply-adds, which are
doubled. Where ptflops divides by the batch, that is undone. Most peers also count some elementwise operators,
biases among them, and so end a few per cent above 1 where nothing is amiss. (The MACs of calflops would
leave these out, but recurrent nets as well.) For assay the worse of two ratios is printed, at the base sizes
and at three times all of them: it gives a formula.

Each pair of a counter and a model has a process of its own, so that hooks and patches end with it. There the
model runs once before it is counted, lest the patches meet an import.

Run: pip install -c constraints.txt -e '.[bench]' && python benchmarks/cost_peers.py [MODEL …]
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
import transformers
from cost import resnet18
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import assay
from assay.builder import Builder

PATIENCE = 300  # seconds after which a counter is stopped
Made = tuple[nn.Module, tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """A model, and its flops in its own sizes."""

    build: Callable[..., Made]
    truth: Callable[..., int]


# Models and their truths -------------------------------------------------------------------------------


def lstm(b: int = 8, n: int = 64, d: int = 64) -> Made:
    """Two bidirectional layers of nn.LSTM."""
    return nn.LSTM(d, d, 2, bidirectional=True, batch_first=True), (torch.randn(b, n, d),)


def lstm_truth(b: int, n: int, d: int) -> int:
    """Four gates of d units read the input and the state; the second layer's input is both directions."""
    first, second = 4 * d * (d + d), 4 * d * (2 * d + d)
    return 2 * b * n * 2 * (first + second)


def gru(b: int = 8, n: int = 64, d: int = 64) -> Made:
    """One layer of nn.GRU."""
    return nn.GRU(d, d, batch_first=True), (torch.randn(b, n, d),)


def gru_truth(b: int, n: int, d: int) -> int:
    """Three gates of d units read the input and the state."""
    return 2 * b * n * 3 * d * (d + d)


def g2p(b: int = 8, n: int = 32, m: int = 32, d: int = 64) -> Made:
    """GRU cells in a loop, with attention: examples/g2p.py."""
    subject = assay.load("examples/g2p.py:attention")(b=b, n=n, m=m, d=d)
    return subject.model, tuple(subject.inputs)


def g2p_truth(b: int, n: int, m: int, d: int) -> int:
    """A cell reads n letters each way; then m times: a cell, query, match, context, mix of 2d, 42 scores."""
    cell = 3 * d * (d + d)
    step = cell + d * d + n * d + n * d + 2 * d * d + 42 * d
    return 2 * b * (2 * n * cell + m * step)


def encoder_layer(b: int = 4, n: int = 128, d: int = 128) -> Made:
    """nn.TransformerEncoderLayer, whose fast path is one fused operator."""
    return nn.TransformerEncoderLayer(d, 4, 4 * d, batch_first=True), (torch.randn(b, n, d),)


def encoder_layer_truth(b: int, n: int, d: int) -> int:
    """Per token: three projections in, one out, 4d wide there and back; n scores and n values, of d each."""
    return 2 * b * n * (3 * d * d + d * d + 2 * d * 4 * d + 2 * n * d)


class Attention(nn.Module):
    """Projections around `scaled_dot_product_attention`."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Four heads, `[b, n, d]` in and out."""
        q, k, v = self.mix(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def attention(b: int = 4, n: int = 128, d: int = 128) -> Made:
    """One layer of attention."""
    return Attention(d), (torch.randn(b, n, d),)


def attention_truth(b: int, n: int, d: int) -> int:
    """Per token: four projections; n scores and n values, of d each over all heads."""
    return 2 * b * n * (4 * d * d + 2 * n * d)


class Logits(nn.Module):
    """A transformers language model from ids to logits: a dictionary is more than some counters can trace."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        """Logits `[b, n, vocabulary]`."""
        logits: Tensor = self.model(input_ids=ids, use_cache=False).logits
        return logits


def gpt2(b: int = 1, n: int = 128) -> Made:
    """GPT-2 small, 124 million parameters, by its default configuration."""
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    return Logits(model), (torch.randint(50257, (b, n)),)


def gpt2_truth(b: int, n: int) -> int:
    """Per token: 12 layers of 4 d² + 8 d² and n scores and values; 50,257 logits."""
    d = 768
    return 2 * b * n * (12 * (12 * d * d + 2 * n * d) + 50257 * d)


def mixtral(b: int = 2, n: int = 64) -> Made:
    """A small Mixtral: four experts, of which each token takes two; two heads of keys serve four."""
    config = transformers.MixtralConfig(
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=448,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    return Logits(transformers.MixtralForCausalLM(config)), (torch.randint(1000, (b, n)),)


def mixtral_truth(b: int, n: int) -> int:
    """Per token and layer: q, out, k and v half as wide, n scores, n values, router, two experts of 3df."""
    d, f = 128, 448
    layer = 2 * d * d + 2 * d * d // 2 + 2 * n * d + d * 4 + 2 * 3 * d * f
    return 2 * b * n * (2 * layer + 1000 * d)


def resnet(b: int = 2, h: int = 224) -> Made:
    """ResNet-18."""
    model, image = resnet18(b, h)
    return model, (image,)


def resnet_truth(b: int, h: int) -> int:
    """7 × 7 at h/2; stages of four 3 × 3 at h/4 … h/32, the first (and a 1 × 1) half as deep; a head."""
    assert h % 32 == 0
    kernels = 3 * 64 * 49 * (h // 2) ** 2 + 4 * 64 * 64 * 9 * (h // 4) ** 2
    for stage, w in enumerate((128, 256, 512)):
        kernels += (w // 2 * w * (9 + 1) + 3 * w * w * 9) * (h // 2 ** (stage + 3)) ** 2
    return 2 * b * (kernels + 512 * 1000)


class Thrice(nn.Module):
    """One layer, three times."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layer = nn.Linear(d, d)

    def forward(self, x: Tensor) -> Tensor:
        """The layer is called, and its weight is used once without it."""
        x = self.layer(self.layer(x).relu()).relu()
        return F.linear(x, self.layer.weight)


def tied(b: int = 4, n: int = 128, d: int = 128) -> Made:
    """A shared layer, applied three times: twice as a module, once by its weight."""
    return Thrice(d), (torch.randn(b, n, d),)


def tied_truth(b: int, n: int, d: int) -> int:
    """Three products by d × d."""
    return 2 * b * n * 3 * d * d


class Checkpointed(nn.Module):
    """Two linear layers that are run again in the backward pass."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x: Tensor) -> Tensor:
        """`[b, n, d]` in and out."""
        out: Tensor = checkpoint(self.layers, x, use_reentrant=False)
        return out


def checkpointed(b: int = 4, n: int = 128, d: int = 128) -> Made:
    """A checkpointed layer."""
    return Checkpointed(d), (torch.randn(b, n, d),)


def checkpointed_truth(b: int, n: int, d: int) -> int:
    """4d wide there and back; what runs again belongs to the backward pass."""
    return 2 * b * n * 2 * d * 4 * d


CASES: Mapping[str, Case] = {
    "nn.LSTM, bidirectional, 2 layers": Case(lstm, lstm_truth),
    "nn.GRU": Case(gru, gru_truth),
    "g2p attention": Case(g2p, g2p_truth),
    "nn.TransformerEncoderLayer": Case(encoder_layer, encoder_layer_truth),
    "scaled_dot_product_attention": Case(attention, attention_truth),
    "GPT-2": Case(gpt2, gpt2_truth),
    "Mixtral, small": Case(mixtral, mixtral_truth),
    "ResNet-18": Case(resnet, resnet_truth),
    "shared layer, 3 times": Case(tied, tied_truth),
    "checkpointed layer": Case(checkpointed, checkpointed_truth),
}


# Counters ----------------------------------------------------------------------------------------------


def by_flop_counter(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Flops by torch itself, on the CPU with the kernels that it chooses."""
    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    return float(counter.get_total_flops())


def by_fvcore(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Counts a fused multiply-add as one."""
    analysis = importlib.import_module("fvcore.nn").FlopCountAnalysis(model, inputs)
    return 2 * float(analysis.total())


def by_calflops(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Its FLOPs."""
    flops, _, _ = importlib.import_module("calflops").calculate_flops(
        model, args=list(inputs), print_results=False, output_as_string=False
    )
    return float(flops)


def by_ptflops(model: nn.Module, inputs: tuple[Tensor, ...], backend: str) -> float | None:
    """Its MACs; None where it has caught and printed an exception."""
    # With names it takes several inputs, and does not divide by the batch. Its hooks of recurrent nets fail
    # on names: these get none, and what its own backend divides by is multiplied back.
    unnamed = isinstance(model, nn.RNNBase)
    batch = len(inputs[0]) if unnamed and backend == "pytorch" else 1
    named = dict(zip(inspect.signature(model.forward).parameters, inputs, strict=False))
    macs, _ = importlib.import_module("ptflops").get_model_complexity_info(
        model,
        (1,),
        input_constructor=lambda _: inputs[0] if unnamed else named,
        backend=backend,
        as_strings=False,
        print_per_layer_stat=False,
    )
    return None if macs is None else 2 * batch * float(macs)


def by_thop(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Its MACs."""
    macs, _ = importlib.import_module("thop").profile(model, inputs=inputs, verbose=False)
    return 2 * float(macs)


def by_torchinfo(model: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Its mult-adds."""
    summary = importlib.import_module("torchinfo").summary(model, input_data=inputs, verbose=0)
    return 2 * float(summary.total_mult_adds)


PEERS: Mapping[str, Callable[[nn.Module, tuple[Tensor, ...]], float | None]] = {
    "FlopCounterMode": by_flop_counter,
    "fvcore": by_fvcore,
    "calflops": by_calflops,
    "ptflops": lambda model, inputs: by_ptflops(model, inputs, "pytorch"),
    "ptflops aten": lambda model, inputs: by_ptflops(model, inputs, "aten"),
    "thop": by_thop,
    "torchinfo": by_torchinfo,
}
PACKAGES = {name: name.split()[0] for name in PEERS if name != "FlopCounterMode"}


def by_assay(case: Case) -> str:
    """The worst ratio of the formula to the truth at the base sizes and at three times all of them."""
    build = Builder(case.build)
    formula = assay.derive_cost(build).flops.forward
    ratios = []
    for factor in (1, 3):
        sizes = {name: factor * value for name, value in build.sizes.items()}
        ratios.append(formula(**sizes) / case.truth(**sizes))
    return shown(max(ratios, key=lambda ratio: abs(ratio - 1)))


def by_peer(case: Case, name: str) -> str:
    """What a counter says at the base sizes."""
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        return "not installed"
    model, inputs = case.build()
    with torch.no_grad():
        model.eval()(*inputs)
        counted = PEERS[name](model, inputs)
    if counted is None:
        return "None"
    return shown(counted / case.truth(**Builder(case.build).sizes))


def shown(ratio: float) -> str:
    """1 where it is exact, and 1.00 where it is nearly so."""
    return f"{ratio:.0f}" if ratio in (0, 1) else f"{ratio:.{2 if ratio >= 0.1 else 3}f}"


# Table -------------------------------------------------------------------------------------------------


def answer(send: Connection, case: Case, name: str) -> None:
    """Send what `name` says of a case, in a process of its own and in silence."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        try:
            said = by_assay(case) if name == "assay" else by_peer(case, name)
        except Exception as error:
            said = f"raises: {type(error).__name__}"
    send.send(said)


def ask(case: Case, name: str) -> str:
    """The answer of a new process."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.Process(target=answer, args=(send, case, name))
    process.start()
    send.close()
    try:
        said = str(receive.recv()) if receive.poll(PATIENCE) else f"over {PATIENCE} s"
    except EOFError:
        said = "crashes"
    process.kill()
    process.join()
    return said


def main(names: list[str]) -> None:
    """Print one line for each model, and how to install what is missing."""
    columns = ["assay", *PEERS]
    print(f"| model | sizes | true flops | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 3) + "|")
    missing = set()
    for name in names or CASES:
        case = CASES[name]
        sizes = Builder(case.build).sizes
        said = {column: ask(case, column) for column in columns}
        missing |= {PACKAGES[peer] for peer, text in said.items() if text == "not installed"}
        given = ", ".join(f"{size}={value}" for size, value in sizes.items())
        cells = [name, given, f"{case.truth(**sizes):,}", *said.values()]
        print(f"| {' | '.join(cells)} |", flush=True)
    if missing:
        print(f"not installed: pip install -c constraints.txt {' '.join(sorted(missing))}")


if __name__ == "__main__":
    main(sys.argv[1:])
