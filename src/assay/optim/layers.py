"""How the weights of each kind of layer read as matrices: outputs, inputs, and what their inputs are.

Every weight is read as `[groups, outputs, inputs, taps]`: a linear layer as `[1, o, i, 1]`, a grouped
convolution as `[g, o/g, i/g, k]`, three packed projections as `[3, d, d, 1]`, the weight of a norm as
`[d, 1, 1, 1]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

View = Callable[[Tensor], Tensor]
Kind = Literal["matrix", "embedding", "scale", "whole"]


@dataclass(frozen=True)
class Reading:
    """How one weight of one module is to be read.

    Args:
        weight: Name within the module.
        bias: Likewise, or None.
        kind: What arithmetic applies.
        view: The weight `[groups, outputs, inputs, taps]`, as a view; the bias has one entry an output.
        inputs: Where its inputs are found, one finder a port: each gives `[..., d]`. Empty: no statistics.
        widths: Features of each port.
        note: What a reader of the listing should know.
        source: The value projection that statistics are derived from, in place of ports.
        unseen: Why the inputs have no statistics though they would need them.
        by_rows: Whether the outputs are the first axis of the weight, ungrouped.
    """

    weight: str
    bias: str | None
    kind: Kind
    view: View
    note: str
    inputs: tuple[Any, ...] = ()
    widths: tuple[int, ...] = ()
    source: str | None = None
    unseen: str = ""
    by_rows: bool = True


def readings(module: nn.Module) -> Iterator[Reading]:
    """Of every weight of the module's own, if it is of a kind that is known.

    Args:
        module: Any module.

    Yields:
        Readings; nothing for an unknown kind.
    """
    for kinds, read in _KINDS:
        if isinstance(module, kinds):
            yield from read(module)
            return
    if type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers."):
        yield from _transposed_linear(module)
    elif _is_norm(module):
        yield from _norm(module)


def argument(place: int, name: str) -> Any:
    """Finds an argument by place or by name.

    Args:
        place: Its position.
        name: Its name.

    Returns:
        A finder.
    """

    def find(args: Any, kwargs: Any, output: Any) -> Any:
        x = args[place] if len(args) > place else kwargs.get(name)
        return x.data if isinstance(x, nn.utils.rnn.PackedSequence) else x

    return find


_first = argument(0, "input")


def _bias(module: nn.Module, name: str = "bias") -> str | None:
    return name if getattr(module, name, None) is not None else None


def _linear(module: Any) -> Iterator[Reading]:
    yield Reading(
        "weight",
        _bias(module),
        "matrix",
        lambda w: w.view(1, *w.shape, 1),
        "linear",
        (_first,),
        (module.in_features,),
    )


def _transposed_linear(module: Any) -> Iterator[Reading]:
    yield Reading(
        "weight",
        _bias(module),
        "matrix",
        lambda w: w.t().unsqueeze(0).unsqueeze(-1),
        "linear, stored transposed",
        (argument(0, "x"),),
        (module.weight.shape[0],),
        by_rows=False,
    )


def _channels_last(dims: int) -> Any:
    def find(args: Any, kwargs: Any, output: Any) -> Any:
        x = _first(args, kwargs, output)
        return _positions(x, dims) if isinstance(x, Tensor) else x

    return find


def _positions(x: Tensor, dims: int, most: int = 4096) -> Tensor:
    """`[n, positions, channels]`: of many positions evenly spread ones, before anything is copied."""
    flat = x.flatten(x.dim() - dims)
    flat = flat if flat.dim() == 3 else flat.unsqueeze(0)
    step = -(-flat.shape[0] * flat.shape[2] // most)
    if step > 1:
        step = min(step | 1, max(1, flat.shape[2]))
        flat = flat[:, :, ::step]
    return flat.movedim(1, 2)


def _convolution(module: Any) -> Iterator[Reading]:
    g, dims = module.groups, len(module.kernel_size)

    def view(w: Tensor) -> Tensor:
        return w.reshape(g, w.shape[0] // g, w.shape[1], -1)

    def transposed(w: Tensor) -> Tensor:
        return w.reshape(g, w.shape[0] // g, w.shape[1], -1).transpose(1, 2)

    padded = any(module.padding) if not isinstance(module.padding, str) else True
    zeros = padded and module.padding_mode == "zeros" and not module.transposed
    kind = "transposed convolution" if module.transposed else "convolution"
    grouped = f" in {g} groups" if g > 1 else ""
    note = f"{kind}{grouped}" + (", padded with zeros" if zeros else "")
    yield Reading(
        "weight",
        _bias(module),
        "matrix",
        transposed if module.transposed else view,
        note,
        (_channels_last(dims),),
        (module.in_channels,),
        by_rows=g == 1 and not module.transposed,
    )


def _embedding(module: Any) -> Iterator[Reading]:
    yield Reading(
        "weight",
        None,
        "embedding",
        lambda w: w.t().unsqueeze(0).unsqueeze(-1),
        "embedding",
    )


def _norm(module: Any) -> Iterator[Reading]:
    yield Reading(
        "weight", _bias(module), "scale", lambda w: w.reshape(-1, 1, 1, 1), "scale of a norm"
    )


def _is_norm(module: nn.Module) -> bool:
    """RMSNorm and LayerNorm of other libraries: a weight of one axis, at most a bias, and the name."""
    names = {name for name, _ in module.named_parameters(recurse=False)}
    weight = getattr(module, "weight", None)
    return (
        "norm" in type(module).__name__.lower()
        and "weight" in names <= {"weight", "bias"}
        and isinstance(weight, Tensor)
        and weight.dim() == 1
    )


def _attention(module: Any) -> Iterator[Reading]:
    finders = (argument(0, "query"), argument(1, "key"), argument(2, "value"))
    d = module.embed_dim
    if module.in_proj_weight is not None:
        yield Reading(
            "in_proj_weight",
            _bias(module, "in_proj_bias"),
            "matrix",
            lambda w: w.view(3, w.shape[0] // 3, w.shape[1], 1),
            "query, key and value projections",
            finders,
            (d, d, d),
            by_rows=False,
        )
    else:
        widths = (d, module.kdim, module.vdim)
        for name, find, width in zip("qkv", finders, widths, strict=True):
            # their biases are packed in one vector, so none of them is centred
            yield Reading(
                f"{name}_proj_weight",
                None,
                "matrix",
                lambda w: w.view(1, *w.shape, 1),
                f"{name} projection; its bias is packed with others, so it is not centred",
                (find,),
                (width,),
            )
    if module.in_proj_weight is not None and module.bias_v is None and not module.add_zero_attn:
        yield Reading(
            "out_proj.weight",
            "out_proj.bias" if module.out_proj.bias is not None else None,
            "matrix",
            lambda w: w.view(1, *w.shape, 1),
            "output projection; its inputs' statistics follow from the value projection",
            source="in_proj_weight",
            by_rows=False,
        )


def _recurrent(module: Any) -> Iterator[Reading]:
    relu = getattr(module, "mode", "") == "RNN_RELU"
    # states of tanh have a unit of their own; those of ReLU have none, and are not seen from outside
    unseen = "the states of a ReLU recurrence are not seen" if relu else ""
    directions = 2 if module.bidirectional else 1
    for layer in range(module.num_layers):
        for direction in range(directions):
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            first = layer == 0
            yield Reading(
                f"weight_ih{suffix}",
                _bias(module, f"bias_ih{suffix}"),
                "matrix",
                lambda w: w.view(1, *w.shape, 1),
                "input gates" if first else "gates that read the states below",
                (_first,) if first else (),
                (module.input_size,) if first else (),
                unseen="" if first else unseen,
            )
            yield Reading(
                f"weight_hh{suffix}",
                _bias(module, f"bias_hh{suffix}"),
                "matrix",
                lambda w: w.view(1, *w.shape, 1),
                "gates that read the state",
                unseen=unseen,
            )
            if getattr(module, "proj_size", 0):
                yield Reading(
                    f"weight_hr{suffix}",
                    None,
                    "matrix",
                    lambda w: w.view(1, *w.shape, 1),
                    "projection of the state",
                )


def _cell(module: Any) -> Iterator[Reading]:
    relu = getattr(module, "nonlinearity", "") == "relu"
    state = argument(1, "hx")

    def hidden(args: Any, kwargs: Any, output: Any) -> Any:
        x = state(args, kwargs, output)
        return x[0] if isinstance(x, tuple) else x

    yield Reading(
        "weight_ih",
        _bias(module, "bias_ih"),
        "matrix",
        lambda w: w.view(1, *w.shape, 1),
        "input gates",
        (_first,),
        (module.input_size,),
    )
    yield Reading(
        "weight_hh",
        _bias(module, "bias_hh"),
        "matrix",
        lambda w: w.view(1, *w.shape, 1),
        "gates that read the state",
        (hidden,) if relu else (),
        (module.hidden_size,) if relu else (),
    )


_NORMS = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.instancenorm._InstanceNorm,
    *((nn.RMSNorm,) if hasattr(nn, "RMSNorm") else ()),
)
_KINDS: tuple[tuple[Any, Any], ...] = (
    (nn.Linear, _linear),
    (nn.modules.conv._ConvNd, _convolution),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.MultiheadAttention, _attention),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
    (_NORMS, _norm),
)
