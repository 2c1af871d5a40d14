"""What causal attention hides, held against the products that run: all that grow with n² are attention's."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attend
from torch.utils.checkpoint import checkpoint

from assay import derive_cost, derive_fused_cost


class Net(nn.Module):
    """A linear layer, and a function of it and the input."""

    def __init__(self, forward, d):
        super().__init__()
        self.linear, self.function = nn.Linear(d, d), forward

    def forward(self, x):
        return self.function(self.linear, x)


def causal(q, k, v):
    return attend(q, k, v, is_causal=True)


CASES = {
    "all": lambda f, x: causal(f(x), f(x), f(x)),
    "queries": lambda f, x: causal(f(x), x, x),
    "keys": lambda f, x: causal(x, f(x), x),
    "values": lambda f, x: causal(x, x, f(x)),
    "keys and values": lambda f, x: causal(x, f(x), f(x)),
    "none": lambda f, x: f(x) + causal(x, x, x),
    "detached": lambda f, x: f(x) + causal(f(x), f(x), f(x)).detach(),
    "which is largest": lambda f, x: f(x + causal(f(x), f(x), f(x)).argmax(-1, keepdim=True)),
    "without gradients": lambda f, x: f(x + torch.no_grad()(causal)(f(x), f(x), f(x))),
    "in a row": lambda f, x: causal(f(x), f(x), causal(f(x), f(x), f(x))),
    "wide values": lambda f, x: causal(f(x), f(x), torch.cat([f(x)] * 3, -1)),
    "the last in a checkpoint": lambda f, x: checkpoint(
        lambda y: causal(f(y), f(y), f(y)), f(x), use_reentrant=False
    ),
    "in a checkpoint": lambda f, x: checkpoint(
        lambda y: f(causal(f(y), f(y), f(y))).relu(), f(x), use_reentrant=False
    ),
    "in an older checkpoint": lambda f, x: checkpoint(
        lambda y: f(causal(f(y), f(y), f(y))).relu(), f(x), use_reentrant=True
    ),
    "by rows": lambda f, x: torch.vmap(lambda y: causal(f(y)[None], f(y)[None], f(y)[None]))(x),
}


@pytest.mark.parametrize("derive", [derive_cost, derive_fused_cost], ids=["plain", "fused"])
@pytest.mark.parametrize("forward", CASES.values(), ids=CASES)
def test_of_all_products_that_grow_with_the_square_half_are_hidden_but_for_the_diagonal(
    forward, derive
):
    def build(b: int = 2, n: int = 8, d: int = 4):
        return Net(forward, d), torch.randn(b, 2, n, d)

    cost = derive(build)
    for phase in ("forward", "backward"):
        full, hidden = getattr(cost.flops, phase), getattr(cost.masked, phase)
        for b, n, d in ((1, 2, 1), (3, 11, 8), (2, 100, 5)):
            squares = [term for power, term in full.by_power("n").items() if power == 2]
            every = squares[0](b=b, n=n, d=d) if squares else 0
            assert 2 * n * hidden(b=b, n=n, d=d) == (n - 1) * every
