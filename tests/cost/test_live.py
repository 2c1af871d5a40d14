"""Bytes alive, against adding up the distinct storages of every tensor that is still held."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from assay.cost.live import Live, tensors_of


def brute(held):
    """Each storage once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in held}
    return sum(storages.values())


action = st.one_of(
    st.tuples(st.just("make"), st.integers(1, 50)),
    st.tuples(st.just("view"), st.integers(0, 99)),
    st.tuples(st.just("drop"), st.integers(0, 99)),
    st.tuples(st.just("see again"), st.integers(0, 99)),
)


@settings(max_examples=50)
@given(st.lists(action, max_size=40), st.sampled_from(["cpu", "meta"]))
def test_bytes_are_those_of_what_is_held(actions, device):
    live, held = Live(), []
    for kind, value in actions:
        if kind == "make":
            held.append(torch.empty(value, device=device))
            assert live.see(held[-1])
        elif held:
            chosen = held[value % len(held)]
            if kind == "view":
                held.append(chosen.view(-1)[:1])
                assert not live.see(held[-1])
            elif kind == "see again":
                assert not live.see(chosen)
            else:
                held.pop(value % len(held))
            del chosen
        assert live.bytes == brute(held)
    held.clear()
    assert live.bytes == 0


def test_following_keeps_nothing_and_a_new_storage_at_an_old_address_counts():
    live = Live()
    for size in range(1, 200):
        x = torch.empty(size)
        assert live.see(x)
        assert live.bytes == 4 * size
        del x


def test_what_was_there_before_counts_from_the_start():
    model = nn.Linear(3, 5)
    live = Live([*model.parameters(), model.weight.T])
    assert live.bytes == 4 * (15 + 5)


def test_tensors_of_nested_arguments():
    x, y = torch.ones(1), torch.ones(2)
    assert tensors_of((x, [y, 3, None], "text")) == [x, y]
    assert tensors_of(7) == []
