"""Fields of a client's request, of the kind that they should be."""

from __future__ import annotations

from typing import Any

from alloc_jax.serve.tickets import Refused


def text_of(value: Any, where: str) -> str:
    """A text.

    Raises:
      Refused: it is none; the message says where it stands. So do the others.
    """
    if not isinstance(value, str):
        raise Refused("invalid", f"{where}: expected a text")
    return value


def list_of(value: Any, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise Refused("invalid", f"{where}: expected a list")
    return value


def object_of(value: Any, where: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise Refused("invalid", f"{where}: expected an object")
    return value
