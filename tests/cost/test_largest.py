"""A few laws stand for many: their largest is as good as the largest of all, wherever it is asked."""

from hypothesis import given, settings
from hypothesis import strategies as st

from assay.cost.largest import upper
from assay.cost.piece import Range
from assay.cost.polynomial import Polynomial

B, N = Polynomial.of("b"), Polynomial.of("n")
LAWS = st.tuples(*[st.integers(0, 300)] * 5).map(
    lambda c: N * N * B * c[0] + N * B * c[1] + N * c[2] + B * c[3] + Polynomial.constant(c[4] + 1)
)
SIZES = st.integers(1, 6) | st.integers(1, 5000)


@settings(max_examples=60, derandomize=True)
@given(
    st.lists(LAWS, min_size=1, max_size=12), st.integers(1, 3), st.lists(st.tuples(SIZES, SIZES))
)
def test_the_largest_of_the_chosen_is_within_one_percent(laws, low, points):
    spans = {"b": Range(low), "n": Range(1, 5000)}
    first, others = upper(laws, spans)
    assert {first, *others} <= set(laws)
    for b, n in points:
        sizes = {"b": max(b, low), "n": n}
        top = max(law(sizes) for law in laws)
        assert max(law(sizes) for law in (first, *others)) >= 0.99 * top


def test_known_sizes_count_too():
    laws = [N * 10, Polynomial.constant(123_456)]
    first, others = upper(laws, {"n": Range(10**7, None, 10**7)}, [{"n": 10**7}])
    assert (first, others) == (laws[0], ())
