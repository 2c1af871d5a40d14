"""How an optimizer takes its gradients, found by trying."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from assay.errors import UsageError
from assay.state import preserved_random_state
from assay.update.optimizer import build_optimizer, needs_closure
from assay.update.training import Training
from assay.update.trajectory import Feeding, Setting, train

MANY = 2  # calls of the closure in a step beyond which a step is long, as L-BFGS's are
_WAYS = (
    Feeding(),
    Feeding(closure=True),
    Feeding(sparse=True),
    Feeding(graph=True),
    Feeding(closure=True, graph=True),
)


@dataclass(frozen=True)
class Fed:
    """What was found.

    Args:
        feeding: The first way that the optimizer accepts.
        narrow: The lower precision that its step works in, if any.
        long: Whether one step calls its closure many times.
    """

    feeding: Feeding
    narrow: torch.dtype | None
    long: bool


def find_feeding(setting: Setting, world: Training, *, fold: bool = True) -> Fed:
    """The first way of feeding gradients that the optimizer accepts.

    Args:
        setting: Optimizer and problem; its feeding is not used.
        world: The reference.
        fold: Whether the model can be written with 2-D parameters only.

    Returns:
        Dense gradients and a model with biases where that works.

    Raises:
        Exception: What the optimizer raised at the plainest way, where no way works.
        UsageError: If `make` returns something that is no optimizer.
    """
    short = replace(setting, problem=setting.problem.lasting(2), watch=True)
    raised: Exception | None = None
    for folded in (False, True) if fold else (False,):
        for way in _WAYS:
            feeding = replace(way, folded=folded)
            try:
                if not way.closure and _must_close(setting, world, folded):
                    continue
                run = train(replace(short, feeding=feeding), world)
            except UsageError:
                raise
            except Exception as error:
                raised = raised or error
            else:
                return Fed(feeding, run.narrow, run.calls > MANY * 2)
    assert raised is not None  # the closure way was tried
    raise raised


def _must_close(setting: Setting, world: Training, folded: bool) -> bool:
    with preserved_random_state(setting.seed):
        optimizer = build_optimizer(setting.make, world.network(folded), setting.name)
    return needs_closure(optimizer)
