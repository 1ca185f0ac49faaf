"""Equal shares: what fills up the last one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alloc_jax.solve.mesh import filled, whole_shares


def test_a_share_is_filled_up_by_a_value_or_by_the_first_entries_again():
    x = np.arange(6).reshape(3, 2)
    assert filled(x, 5, value=-1)[:, 0].tolist() == [0, 2, 4, -1, -1]
    assert filled(x, 7)[:, 0].tolist() == [0, 2, 4, 0, 2, 4, 0]
    assert filled(x, 3, axis=1, value=9).tolist() == [[0, 1, 9], [2, 3, 9], [4, 5, 9]]
    assert filled(x, 3) is x


@pytest.mark.parametrize("of", [np.asarray, jnp.asarray])
def test_what_is_filled_up_stays_where_it_is(of):
    x = of(np.float32([1, 2]))
    for found in (filled(x, 3, value=0), filled(x, 3)):
        assert isinstance(found, jax.Array) == isinstance(x, jax.Array) and found.dtype == x.dtype


def test_shares_are_equal_and_not_larger_than_they_must_be():
    for count, shares in ((1, 8), (8, 8), (9, 8), (5, 1)):
        whole = whole_shares(count, shares)
        assert whole % shares == 0 and count <= whole < count + shares
