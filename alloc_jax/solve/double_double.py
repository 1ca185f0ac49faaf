"""Numbers held as the unevaluated sum of two floats, for totals that decide feasibility where float64 is missing.

A `DoubleDouble` (hi, lo) with |lo| at most half a unit in the last place of hi carries 48 bits in float32 (106 in float64).
The building block is Knuth's two-sum, which is exact and holds no product, so that a compiler that contracts
a * b + c into one instruction cannot change it. Products are split by masking bits into halves whose products are
exact; contraction cannot change those either.

Totals of long arrays are trees of radix 32: each level is one elementwise loop over 32 slices, which vectorises, runs
on every core, needs no sequential prefix, and shards.

Source: D. Knuth, The Art of Computer Programming, volume 2, 4.2.2; Y. Hida, X. Li and D. Bailey, ARITH 2001.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class DoubleDouble(NamedTuple):
    """The number hi + lo; both arrays have the same shape."""

    hi: jax.Array
    lo: jax.Array


def two_sum(a: jax.Array, b: jax.Array) -> DoubleDouble:
    """a + b exactly, as the rounded sum and what the rounding lost."""
    total = a + b
    shadow = total - a
    return DoubleDouble(total, (a - (total - shadow)) + (b - shadow))


def two_product(a: jax.Array, b: jax.Array) -> DoubleDouble:
    """a * b to twice the precision of the type."""
    (a_top, a_rest), (b_top, b_rest) = _halves(a), _halves(b)
    total = two_sum(a_top * b_top, a_top * b_rest)
    return _renormalise(*add_float(total, a_rest * b_top), a_rest * b_rest)


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """x as top + rest, each short enough that products of halves are exact."""
    integer, bits = (jnp.int32, 12) if x.dtype == jnp.float32 else (jnp.int64, 27)
    top = jax.lax.bitcast_convert_type(x, integer) & ~integer((1 << bits) - 1)
    top = jax.lax.bitcast_convert_type(top, x.dtype)
    return top, x - top


def _renormalise(hi: jax.Array, lo: jax.Array, tail: jax.Array | float = 0.0) -> DoubleDouble:
    return two_sum(hi, lo + tail)


def pair(x: jax.Array) -> DoubleDouble:
    """A float as a `DoubleDouble`."""
    return DoubleDouble(x, jnp.zeros_like(x))


def split(value: float | np.ndarray, dtype: np.dtype) -> DoubleDouble:
    """A host number (Python float or float64) as a `DoubleDouble` of the given type.

    >>> bool(split(0.1, np.float32).lo < 0)
    True
    """
    hi = np.asarray(value).astype(dtype)
    with np.errstate(invalid="ignore"):
        lo = (np.asarray(value) - hi.astype(np.float64)).astype(dtype)
    return DoubleDouble(hi, lo)  # type: ignore[arg-type]  # a pair on the host, which JAX takes


def add_float(x: DoubleDouble, y: jax.Array) -> DoubleDouble:
    """x + y, of which y is a float."""
    total = two_sum(x.hi, y)
    return _renormalise(total.hi, total.lo, x.lo)


def add(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x + y."""
    total = two_sum(x.hi, y.hi)
    return _renormalise(total.hi, total.lo, x.lo + y.lo)


def subtract(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x - y."""
    return add(x, DoubleDouble(-y.hi, -y.lo))


def multiply(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x * y."""
    product = two_product(x.hi, y.hi)
    return _renormalise(product.hi, product.lo, x.hi * y.lo + x.lo * y.hi)


def divide(x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x / y; exact where the quotient is a float."""
    quotient = x.hi / y.hi
    rest = subtract(x, multiply(pair(quotient), y))
    return two_sum(quotient, rest.hi / y.hi)


def at_most(x: DoubleDouble, y: DoubleDouble) -> jax.Array:
    """x <= y."""
    return subtract(x, y).hi <= 0


def slack(dtype) -> float:
    """The relative tolerance of a budget: one that equals what a plan spends must not fail by the rounding of either total."""
    return 2.0**-42 if dtype == np.float32 else 2.0**-50


def where(condition: jax.Array, x: DoubleDouble, y: DoubleDouble) -> DoubleDouble:
    """x where the condition holds, else y."""
    return DoubleDouble(jnp.where(condition, x.hi, y.hi), jnp.where(condition, x.lo, y.lo))


def rounded_down(x: DoubleDouble) -> jax.Array:
    """The largest float not above x, so that a spend within its budget is also reported within it."""
    return jnp.where(x.lo < 0, jnp.nextafter(x.hi, jnp.full_like(x.hi, -jnp.inf)), x.hi)


def rounded_up(x: DoubleDouble) -> jax.Array:
    """The least float not below x."""
    return jnp.where(x.lo > 0, jnp.nextafter(x.hi, jnp.full_like(x.hi, jnp.inf)), x.hi)


def total(x: DoubleDouble, axis: int = -1) -> DoubleDouble:
    """The sum over one axis of a short array, one entry after the other."""
    zero = jnp.zeros((), x.hi.dtype)
    return DoubleDouble(
        *jax.lax.reduce(
            tuple(x), (zero, zero), lambda a, b: tuple(add(DoubleDouble(*a), DoubleDouble(*b))), (axis % x.hi.ndim,)
        )
    )


def power_above(x: jax.Array) -> jax.Array:
    """The least power of two above a positive number; 0 for 0."""
    integer, bits = (jnp.int32, 23) if x.dtype == jnp.float32 else (jnp.int64, 52)
    exponent = jax.lax.bitcast_convert_type(x, integer) >> bits << bits
    return 2 * jax.lax.bitcast_convert_type(exponent, x.dtype)


def slices(x: jax.Array, ceiling: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x as a sum of three: 1024 of the first, or of the second, add up exactly in any order, and the third is below rounding.

    Args:
      x: at most the ceiling in size.
      ceiling: f32[] a power of two.
    """
    digits = jnp.finfo(x.dtype).nmant + 1
    coarse = 1.5 * 2.0**10 * ceiling
    fine = coarse * 2.0 ** (10 - digits)
    first = (x + coarse) - coarse
    second = ((x - first) + fine) - fine
    return first, second, (x - first) - second
