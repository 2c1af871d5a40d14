"""Architectures written by hand that read sequences and sets."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Made = tuple[nn.Module, Any]


class LoopedTranslator(nn.Module):
    """A GRU cell reads, another writes; with additive attention (Bahdanau et al. 2015) where asked for."""

    def __init__(self, d: int, vocabulary: int, attends: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, d)
        self.reader, self.writer = nn.GRUCell(d, d), nn.GRUCell(2 * d if attends else d, d)
        self.out = nn.Linear(d, vocabulary)
        self.attends = attends
        if attends:
            self.keys, self.query, self.score = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, 1)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits `[b, m, vocabulary]`."""
        state = torch.zeros(len(source), self.reader.hidden_size)
        read = []
        for step in self.embed(source).unbind(1):
            state = self.reader(step, state)
            read.append(state)
        memory = torch.stack(read, 1)
        keys = self.keys(memory) if self.attends else memory
        written = []
        for step in self.embed(target).unbind(1):
            if self.attends:
                scores = self.score(torch.tanh(keys + self.query(state)[:, None]))
                step = torch.cat([step, (scores.softmax(1) * memory).sum(1)], -1)
            state = self.writer(step, state)
            written.append(self.out(state))
        return torch.stack(written, 1)


def gru_loop(b: int = 2, n: int = 6, m: int = 5, d: int = 16) -> Made:
    """Encoder and decoder as loops over GRU cells."""
    return LoopedTranslator(d, 30, False), (_ids(b, n, 30), _ids(b, m, 30))


def gru_loop_attention(b: int = 2, n: int = 6, m: int = 5, d: int = 16) -> Made:
    """The same with attention at every step."""
    return LoopedTranslator(d, 30, True), (_ids(b, n, 30), _ids(b, m, 30))


class Translator(nn.Module):
    """nn.GRU reads and writes; dot-product attention (Luong et al. 2015) where asked for."""

    def __init__(self, d: int, vocabulary: int, attends: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, d)
        self.reader = nn.GRU(d, d, batch_first=True)
        self.writer = nn.GRU(d, d, batch_first=True)
        self.out = nn.Linear(2 * d if attends else d, vocabulary)
        self.attends = attends

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits `[b, m, vocabulary]`."""
        memory, state = self.reader(self.embed(source))
        written, _ = self.writer(self.embed(target), state)
        if self.attends:
            weights = (written @ memory.transpose(1, 2)).softmax(-1)
            written = torch.cat([written, weights @ memory], -1)
        return self.out(written)


def gru_seq2seq(b: int = 2, n: int = 6, m: int = 5, d: int = 16) -> Made:
    """Encoder–decoder of nn.GRU."""
    return Translator(d, 30, False), (_ids(b, n, 30), _ids(b, m, 30))


def gru_seq2seq_attention(b: int = 2, n: int = 6, m: int = 5, d: int = 16) -> Made:
    """The same with attention."""
    return Translator(d, 30, True), (_ids(b, n, 30), _ids(b, m, 30))


def bilstm(b: int = 2, n: int = 8, d: int = 16) -> Made:
    """Two bidirectional layers of nn.LSTM."""
    return nn.LSTM(d, d, 2, bidirectional=True, batch_first=True), torch.randn(b, n, d)


def transformer(b: int = 2, n: int = 8, m: int = 6, d: int = 32) -> Made:
    """nn.Transformer, encoder and decoder, causal."""
    model = nn.Transformer(d, 4, 2, 2, 4 * d, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(m)
    inputs = {"src": torch.randn(b, n, d), "tgt": torch.randn(b, m, d), "tgt_mask": mask}
    return model, inputs


class Checkpointed(nn.Module):
    """Encoder layers whose activations are computed once more in the backward pass."""

    def __init__(self, d: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d, 2, 4 * d, batch_first=True) for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Like an encoder."""
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False)
        return x


def checkpointed(b: int = 2, n: int = 8, d: int = 16, depth: int = 3) -> Made:
    """An encoder under activation checkpointing."""
    return Checkpointed(d, depth), torch.randn(b, n, d, requires_grad=True)


class Tied(nn.Module):
    """One layer run many times (Universal Transformer), and the embedding once more as the output."""

    def __init__(self, d: int, vocabulary: int, rounds: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, d)
        self.layer = nn.TransformerEncoderLayer(d, 2, 2 * d, batch_first=True)
        self.out = nn.Linear(d, vocabulary, bias=False)
        self.out.weight = self.embed.weight
        self.rounds = rounds

    def forward(self, ids: Tensor) -> Tensor:
        """Logits `[b, n, vocabulary]`."""
        x = self.embed(ids)
        for _ in range(self.rounds):
            x = self.layer(x)
        return self.out(x)


def tied(b: int = 2, n: int = 8, d: int = 16, rounds: int = 3) -> Made:
    """Shared layers and a tied embedding."""
    return Tied(d, 40, rounds), _ids(b, n, 40)


class WaveNet(nn.Module):
    """Causal convolutions, each twice as far dilated, gated (van den Oord et al. 2016)."""

    def __init__(self, c: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, c, 1)
        self.gates = nn.ModuleList(nn.Conv1d(c, 2 * c, 2, dilation=2**i) for i in range(depth))
        self.mixes = nn.ModuleList(nn.Conv1d(c, c, 1) for _ in range(depth))
        self.out = nn.Conv1d(c, 256, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the next sample `[b, 256, n]`."""
        x = self.first(x)
        skipped = torch.zeros_like(x)
        for gate, mix in zip(self.gates, self.mixes, strict=True):
            value, open_ = gate(F.pad(x, (gate.dilation[0], 0))).chunk(2, 1)
            update = mix(value.tanh() * open_.sigmoid())
            x, skipped = x + update, skipped + update
        return self.out(F.relu(skipped))


def wavenet(b: int = 2, n: int = 32, c: int = 8, depth: int = 5) -> Made:
    """WaveNet at any length."""
    return WaveNet(c, depth), torch.randn(b, 1, n)


class ConvTasNet(nn.Module):
    """A strided encoder of sound, masks from dilated depthwise convolutions, a decoder (Luo & Mesgarani)."""

    def __init__(self, c: int, speakers: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.Conv1d(1, c, 16, 8), nn.ConvTranspose1d(c, 1, 16, 8)
        blocks = []
        for i in range(3):
            wide = nn.Conv1d(2 * c, 2 * c, 3, padding=2**i, dilation=2**i, groups=2 * c)
            blocks.append(nn.Sequential(nn.Conv1d(c, 2 * c, 1), nn.PReLU(), nn.GroupNorm(1, 2 * c), wide,
                                        nn.PReLU(), nn.Conv1d(2 * c, c, 1)))  # fmt: skip
        self.blocks, self.mask = nn.ModuleList(blocks), nn.Conv1d(c, speakers * c, 1)
        self.speakers = speakers

    def forward(self, sound: Tensor) -> Tensor:
        """The sound of each speaker `[b, speakers, samples]`."""
        x = coded = self.encode(sound)
        for block in self.blocks:
            x = x + block(x)
        masks = self.mask(x).sigmoid().unflatten(1, (self.speakers, -1))
        return self.decode((masks * coded[:, None]).flatten(0, 1)).unflatten(0, (-1, self.speakers))


def conv_tasnet(b: int = 2, n: int = 400, c: int = 8) -> Made:
    """Separation of two speakers."""
    return ConvTasNet(c, 2), torch.randn(b, 1, n)


class LongConvolution(nn.Module):
    """A diagonal state-space model as one long convolution by Fourier transform (S4D, Gu et al. 2022)."""

    def __init__(self, d: int, states: int) -> None:
        super().__init__()
        self.log_dt = nn.Parameter(torch.randn(d))
        self.real, self.imaginary = (nn.Parameter(torch.randn(d, states)) for _ in range(2))
        self.read = nn.Parameter(torch.randn(d, states))
        self.mix = nn.Linear(d, 2 * d)

    def forward(self, x: Tensor) -> Tensor:
        """`[b, n, d]` as it came."""
        n = x.shape[1]
        decay = -self.log_dt.exp()[:, None] * self.real.exp()
        angle = self.log_dt.exp()[:, None] * self.imaginary
        time = torch.arange(n)
        kernel = (
            self.read[..., None] * (decay[..., None] * time).exp() * (angle[..., None] * time).cos()
        ).sum(1)
        mixed = torch.fft.irfft(
            torch.fft.rfft(x.transpose(1, 2), 2 * n) * torch.fft.rfft(kernel, 2 * n), 2 * n
        )[..., :n]
        return x + F.glu(self.mix(F.gelu(mixed.transpose(1, 2))))


def long_convolution(b: int = 2, n: int = 16, d: int = 8) -> Made:
    """Two layers of S4D."""
    return nn.Sequential(LongConvolution(d, 4), LongConvolution(d, 4)), torch.randn(b, n, d)


class Mixture(nn.Module):
    """Every expert sees every token; all but the best k weights are zero."""

    def __init__(self, d: int, experts: int, k: int) -> None:
        super().__init__()
        self.route = nn.Linear(d, experts)
        self.up = nn.Parameter(torch.randn(experts, d, 2 * d))
        self.down = nn.Parameter(torch.randn(experts, 2 * d, d))
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """`[b, n, d]` as it came."""
        scores = self.route(x)
        best, where = scores.topk(self.k, -1)
        weights = torch.zeros_like(scores).scatter(-1, where, best.softmax(-1))
        made = torch.einsum("bnd,edh->benh", x, self.up).relu()
        return torch.einsum("benh,ehd,bne->bnd", made, self.down, weights)


def mixture(b: int = 2, n: int = 8, d: int = 16, experts: int = 6) -> Made:
    """A dense mixture of experts, the best two."""
    return Mixture(d, experts, 2), torch.randn(b, n, d)


class Sets(nn.Module):
    """What a set is, from the sum of what its elements are (Zaheer et al. 2017)."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(3, d), nn.ReLU(), nn.Linear(d, d))
        self.all = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 1))

    def forward(self, x: Tensor) -> Tensor:
        """One number for each set."""
        return self.all(self.each(x).sum(1))


def deep_sets(b: int = 2, n: int = 10, d: int = 16) -> Made:
    """DeepSets."""
    return Sets(d), torch.randn(b, n, 3)


class Graphs(nn.Module):
    """Messages along a dense adjacency matrix (Kipf & Welling 2017), then an edge network."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.one, self.two, self.edge = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(2 * d, 1)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """A score for each pair of nodes `[b, n, n]`."""
        spread = adjacency / adjacency.sum(-1, keepdim=True)
        x = F.relu(spread @ self.one(x))
        x = spread @ self.two(x)
        n = x.shape[1]
        pairs = torch.cat(
            [x[:, :, None].expand(-1, -1, n, -1), x[:, None].expand(-1, n, -1, -1)], -1
        )
        return self.edge(pairs).squeeze(-1)


def graphs(b: int = 2, n: int = 8, d: int = 16) -> Made:
    """A graph network with dense adjacency."""
    return Graphs(d), (torch.randn(b, n, d), torch.rand(b, n, n))


class Perceiver(nn.Module):
    """A few latents read a long input, again and again (Jaegle et al. 2021)."""

    def __init__(self, d: int, latents: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, d))
        self.cross = nn.MultiheadAttention(d, 2, kdim=4, vdim=4, batch_first=True)
        self.own = nn.TransformerEncoderLayer(d, 2, 2 * d, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The latents `[b, latents, d]`."""
        z = self.latents.expand(len(x), -1, -1)
        for _ in range(2):
            z = z + self.cross(z, x, x, need_weights=False)[0]
            z = self.own(z)
        return z


def perceiver(b: int = 2, n: int = 20, d: int = 16, latents: int = 5) -> Made:
    """Perceiver."""
    return Perceiver(d, latents), torch.randn(b, n, 4)


class Highway(nn.Module):
    """Layers that open and close for each unit (Srivastava et al. 2015)."""

    def __init__(self, d: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(d, 2 * d) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """`[b, d]` as it came."""
        for layer in self.layers:
            value, gate = layer(x).chunk(2, -1)
            x = torch.lerp(x, value.relu(), gate.sigmoid())
        return x


def highway(b: int = 4, d: int = 16, depth: int = 8) -> Made:
    """A highway network."""
    return Highway(d, depth), torch.randn(b, d)


class Hypernetwork(nn.Module):
    """One net makes the weights of another, for every row anew (Ha et al. 2017)."""

    def __init__(self, d: int, z: int) -> None:
        super().__init__()
        self.make = nn.Linear(z, d * d + d)
        self.d = d

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """`[b, n, d]` as it came."""
        made = self.make(z)
        weight, bias = made[:, : self.d**2].unflatten(1, (self.d, self.d)), made[:, self.d**2 :]
        return torch.baddbmm(bias[:, None], x, weight).tanh()


def hypernetwork(b: int = 3, n: int = 4, d: int = 8, z: int = 5) -> Made:
    """A hypernetwork."""
    return Hypernetwork(d, z), (torch.randn(b, n, d), torch.randn(b, z))


class Flow(nn.Module):
    """A neural ordinary differential equation by Runge–Kutta steps (Chen et al. 2018)."""

    def __init__(self, d: int, steps: int) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(d, 2 * d), nn.Tanh(), nn.Linear(2 * d, d))
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Where the points have flown `[b, d]`."""
        h = 1 / self.steps
        for _ in range(self.steps):
            one = self.field(x)
            two = self.field(x + h / 2 * one)
            three = self.field(x + h / 2 * two)
            x = x + h / 6 * (one + 2 * two + 2 * three + self.field(x + h * three))
        return x


def flow(b: int = 4, d: int = 8, steps: int = 5) -> Made:
    """A neural ODE."""
    return Flow(d, steps), torch.randn(b, d)


def _ids(b: int, n: int, vocabulary: int) -> Tensor:
    return torch.randint(vocabulary, (b, n))
