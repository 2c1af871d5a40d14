"""Operators are watched without torch's wrapper, but for where code is being compiled."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import assay
from assay.cost.known import _Following
from assay.cost.lean import lean
from assay.cost.watch import Watch

_callback = torch._C._dynamo.eval_frame.get_eval_frame_callback


class _Plain(TorchDispatchMode):
    """Notes which operators came, and whether the compiler was on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append((str(func), _callback() is not None))
        return func(*args, **(kwargs or {}))


@lean
class _Lean(_Plain):
    """The same without the wrapper."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append((str(func), _callback() is not None))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [Watch, _Following])
def test_modes_of_counting_are_lean(mode: type[TorchDispatchMode]) -> None:
    assert mode.__torch_dispatch__.__module__ == "assay.cost.lean"


@pytest.mark.parametrize("inline", [False, True])
def test_the_compiler_is_off_while_an_operator_is_handled(inline: bool) -> None:
    def run(mode: _Plain) -> list[tuple[str, bool]]:
        torch._dynamo.reset()
        with (
            torch._dynamo.config.patch(inline_torch_dispatch_torch_compile=inline),
            mode,
        ):
            torch.compile(lambda x: (x * 2).relu() + x, backend="eager")(torch.ones(3))
        return mode.seen

    seen = run(_Lean())
    assert seen == run(_Plain())
    assert any("relu" in name for name, _ in seen)
    assert not any(on for _, on in seen)


def test_without_a_compiler_the_wrapper_is_left_out() -> None:
    class Deep(_Plain):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            frame: Any = sys._getframe(1)
            self.seen.append((frame.f_code.co_filename, False))
            return func(*args, **(kwargs or {}))

    with Deep() as wrapped:
        torch.ones(3)
    with lean(Deep)() as direct:
        torch.ones(3)
    assert wrapped.seen[0][0].endswith("eval_frame.py")
    assert direct.seen[0][0].endswith("lean.py")


def test_a_mode_without_a_wrapper_stays_as_it_is() -> None:
    class Bare(TorchDispatchMode):
        pass

    before = Bare.__torch_dispatch__
    assert lean(Bare) is Bare
    assert Bare.__torch_dispatch__ is before


def test_a_compiled_part_costs_what_it_costs_otherwise() -> None:
    class Net(nn.Module):
        def __init__(self, compiled: bool) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 4)
            self.act = torch.compile(self._act, backend="eager") if compiled else self._act

        @staticmethod
        def _act(x: Tensor) -> Tensor:
            return x.relu() * x.sigmoid()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.second(self.act(self.first(x)))
            return out

    def cost(compiled: bool) -> Any:
        torch._dynamo.reset()
        return assay.derive_cost(lambda b=2, n=3: (Net(compiled), torch.randn(b, n, 8)))

    plain, compiled = cost(False), cost(True)
    for one, other in ((plain.flops, compiled.flops), (plain.bytes, compiled.bytes)):
        assert str(one.forward) == str(other.forward)
        assert str(one.backward) == str(other.backward)
    assert plain.status == compiled.status
