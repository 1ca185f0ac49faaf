"""Meshes: how questions are shared out over devices, and how devices put together what each has found.

A kernel runs on every device for the device's own questions (`on_mesh`). A dataclass says itself how it lies on a mesh: a
field with questions names their axis in its metadata, `field(metadata={"questions": 1})`, and every other field is
whole on every device (`specs_of`). Devices communicate by all-reduces alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from alloc_jax.solve import double_double
from alloc_jax.solve.double_double import DoubleDouble

Tree = TypeVar("Tree")


def devices(mesh: Mesh | None) -> int:
    """The number of devices."""
    return 1 if mesh is None else mesh.size


def questions_on(mesh: Mesh | None, axis: int = 0) -> P | None:
    """The partition of an array with questions on one axis."""
    return None if mesh is None else P(*[None] * axis, mesh.axis_names)


def specs_of(kind: type[Tree], mesh: Mesh | None, /, **given: Any) -> Tree | None:
    """How a dataclass lies on a mesh: the dataclass with a partition in place of each array.

    Args:
      kind: the dataclass.
      mesh: the devices; None: no partition is needed.
      given: static fields, and partitions of fields that are dataclasses themselves.
    """
    if mesh is None:
        return None
    found = {
        part.name: questions_on(mesh, part.metadata["questions"]) if "questions" in part.metadata else P()
        for part in dataclasses.fields(kind)  # type: ignore[arg-type]  # a type variable cannot say that it is a dataclass
    }
    return kind(**(found | given))


def filled(x, length: int, axis: int = 0, value: float | None = None):
    """An array with one axis filled up to a length, as equal shares need it; NumPy stays NumPy.

    Args:
      x: any array.
      length: at least what the axis has.
      axis: which to fill up.
      value: what to fill with where sums run over the axis, so that the filling adds nothing; None: the first entries
        again, where entries do not depend on each other and the results of the filling are dropped.
    """
    missing = length - x.shape[axis]
    if not missing:
        return x
    if value is None:
        return x[(slice(None),) * axis + (np.arange(length) % x.shape[axis],)]
    pad = jnp.pad if isinstance(x, jax.Array) else np.pad
    return pad(x, [(0, missing * (i == axis)) for i in range(x.ndim)], constant_values=value)


def whole_shares(count: int, shares: int) -> int:
    """The least multiple of a number of shares that is not below the count."""
    return count + -count % shares


def shared_out(tree: Tree, mesh: Mesh | None, axis: int = 0, value: float | None = None) -> Tree:
    """Arrays on the devices of a mesh, as much of one axis on each; see `filled` for what fills up the last share."""
    if mesh is None:
        return tree
    filled_up = jax.tree.map(lambda x: filled(x, whole_shares(x.shape[axis], mesh.size), axis, value), tree)
    return put(filled_up, NamedSharding(mesh, questions_on(mesh, axis)))


def put(tree: Tree, sharding: NamedSharding) -> Tree:
    """Arrays on the devices of a mesh, which may be those of several processes that all have the same arrays."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def of(x):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(of(jax.random.key_data(x)))
        return jax.make_array_from_callback(x.shape, sharding, np.asarray(x).__getitem__)

    return jax.tree.map(of, tree)


def whole_on_host(x: jax.Array) -> np.ndarray:
    """An array with all of its parts, also those on devices of other processes."""
    if x.is_fully_addressable:
        return np.asarray(x)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def on_mesh(kernel: Callable, mesh: Mesh | None, *specs, out) -> Callable:
    """The kernel on every device of a mesh, its first arguments shared out as the specs say and the others whole."""
    if mesh is None:
        return kernel
    return lambda *args: jax.shard_map(
        kernel, mesh=mesh, in_specs=specs + (P(),) * (len(args) - len(specs)), out_specs=out, check_vma=False
    )(*args)


# ---------------------------------------------------------------------------------------------------------------
# Inside a kernel: over the devices of a mesh's axes; without axes, there is one device
# ---------------------------------------------------------------------------------------------------------------


def sum_over(x: jax.Array, axes: tuple[str, ...] | None) -> jax.Array:
    """The rounded sum over devices."""
    return x if axes is None else jax.lax.psum(x, axes)


def exact_sum_over(x: DoubleDouble, axes: tuple[str, ...] | None) -> DoubleDouble:
    """The sum over devices to twice the precision of the type, as `double_double.total` has it."""
    return x if axes is None else double_double.total(by_device(x, axes), axis=0)


def max_over(x: jax.Array, axes: tuple[str, ...] | None) -> jax.Array:
    """The highest over devices."""
    return x if axes is None else jax.lax.pmax(x, axes)


def from_device(tree: Tree, device: jax.Array | int, axes: tuple[str, ...] | None) -> Tree:
    """The value that one device has, on all devices."""
    if axes is None:
        return tree
    here = jax.lax.axis_index(axes) == device
    return jax.lax.psum(jax.tree.map(lambda x: jnp.where(here, x, 0), tree), axes)


def by_device(tree: Tree, axes: tuple[str, ...] | None) -> Tree:
    """[devices, ...] what each device has, on all of them. Each writes to a place of its own in one sum, so nothing is rounded."""
    if axes is None:
        return jax.tree.map(lambda x: x[None], tree)
    size, here = jax.lax.axis_size(axes), jax.lax.axis_index(axes)
    placed = jax.tree.map(lambda x: jnp.zeros((size, *x.shape), x.dtype).at[here].set(x), tree)
    return jax.lax.psum(placed, axes)
