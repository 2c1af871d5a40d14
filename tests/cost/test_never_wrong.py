"""Randomly generated programs of loops, windows, strides and branches: a right formula, or a reason."""

import random

from cost_twins import answers, flops
from hypothesis import HealthCheck, given, settings
from random_programs import programs

from assay import derive_cost

# near the fitted sizes, around everything that a program may compare with, and far away
NEAR = [*range(1, 42), 49, 50, 51, 63, 64, 65, 99, 100, 101, 127, 128, 129, 199, 201, 255, 257]


@settings(max_examples=10, derandomize=True, suppress_health_check=list(HealthCheck))
@given(programs)
def test_never_a_wrong_exact(source):
    cost = derive_cost(source.build)
    if cost.status == "refused":
        assert len(cost.flops.forward.reason) > 20
        return
    draw = random.Random(str(source))
    grid = [
        {"b": draw.randint(1, 9), "n": draw.choice(NEAR), "m": draw.choice(NEAR)} for _ in range(25)
    ]
    said = [(sizes, answers(cost, **sizes)) for sizes in grid]
    for sizes, claim in said:
        assert claim is None or claim == flops(source.build, **sizes), f"{sizes}\n{source}"
