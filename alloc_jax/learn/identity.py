"""Who a policy is: a few letters that change with its weights, and with what it reads of a text."""

from __future__ import annotations

import json
from zlib import crc32

import numpy as np

from alloc_jax.learn.policy import Policy
from alloc_jax.logs.decisions import Described


def fingerprint(policy: Policy) -> str:
    """A few letters that change with a policy's weights."""
    mark = 0
    for name in sorted(policy.weights):
        mark = crc32(np.ascontiguousarray(policy.weights[name]).tobytes(), mark)
    return f"{policy.name} {mark:08x}"


def describe_policy(policy: Policy, menu: tuple[str, ...] = ()) -> Described:
    """A policy as decisions name it.

    Args:
      policy: that decides.
      menu: what it chooses among, where that is more than its actions.
    """
    config = json.dumps(policy.featurizer.config(), sort_keys=True, default=str)
    features, menu = f"{crc32(config.encode()):08x}", menu or policy.actions
    return Described(
        mark=f"{fingerprint(policy)} {features} {crc32(','.join(menu).encode()):08x}",
        name=policy.name,
        features=features,
        actions=menu,
        resource=policy.resource,
        unit=policy.unit,
    )
