"""Verdicts on answers, as clients post them: which request, right or not, and who says so; late, in part, and again if need be.

{"id": "chatcmpl-...", "correct": true, "source": "tests"}
{"outcomes": [{"id": ..., "reward": 0.5, "source": "user"}, ...]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alloc_jax.logs.decisions import AGREEMENT, DecisionLog, OutcomeRecord
from alloc_jax.serve.tickets import Refused

MOST = 1000  # verdicts of a request
_LONGEST = 200  # characters of a name
_FIELDS = {"id", "correct", "reward", "source"}


def read_outcomes(body: Any) -> list[OutcomeRecord]:
    """The verdicts that a request's body holds.

    Raises:
      Refused: it holds none, too many, or one that is none; the message says which, and nothing is taken.
    """
    several = isinstance(body, dict) and "outcomes" in body
    items = body["outcomes"] if several else [body]
    if not isinstance(items, list) or not 1 <= len(items) <= MOST or (several and len(body) > 1):
        raise Refused("invalid", f"outcomes: expected a list of 1 to {MOST} verdicts, and nothing beside it")
    return [_read(item, f"outcomes[{j}]" if several else "outcome") for j, item in enumerate(items)]


def post_outcomes(log: DecisionLog, body: Any, tenant: str | None) -> dict[str, Any]:
    """Take the verdicts that can be taken, and say what became of the others.

    Args:
      log: of the decisions.
      body: of the request.
      tenant: whose decisions alone they may be about; None: anybody's.

    Raises:
      Refused: see `read_outcomes`; or the only verdict contradicts an earlier one of its source, or is about no known request.
    """
    outcomes = read_outcomes(body)
    said = log.judged(outcomes, tenant)
    why = {"unknown": "there is no such request", "contradicts": "this source has said otherwise, which stands"}
    refused = [
        {"id": outcome.id, "source": outcome.source, "error": why[status]}
        for outcome, status in zip(outcomes, said, strict=True)
        if status in why
    ]
    if "outcomes" not in body and refused:
        reason = "unknown" if said[0] == "unknown" else "conflict"
        raise Refused(reason, f"outcome of {outcomes[0].id!r} by {outcomes[0].source!r}: {refused[0]['error']}")
    return {"object": "alloc.outcomes", "new": said.count("new"), "known": said.count("known"), "refused": refused}


def _read(item: Any, where: str) -> OutcomeRecord:
    if not isinstance(item, Mapping) or not item.keys() <= _FIELDS:
        raise Refused("invalid", f"{where}: expected an object with id, correct or reward, and source")
    for name in ("id", "source"):
        if not isinstance(item.get(name), str) or not 1 <= len(item[name]) <= _LONGEST or not item[name].isprintable():
            raise Refused("invalid", f"{where}.{name}: expected a text of 1 to {_LONGEST} characters")
    if item["source"] == AGREEMENT:
        raise Refused("invalid", f"{where}.source: {AGREEMENT!r} is the gateway's own")
    given = [name for name in ("correct", "reward") if item.get(name) is not None]
    if len(given) != 1:
        raise Refused("invalid", f"{where}: expected either correct or reward")
    value = item[given[0]]
    if given == ["correct"]:
        if not isinstance(value, bool):
            raise Refused("invalid", f"{where}.correct: expected true or false")
    elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise Refused("invalid", f"{where}.reward: expected a number from 0 to 1")
    identity = item["id"]
    for head in ("chatcmpl-", "resp_"):  # as answers name themselves
        identity = identity.removeprefix(head)
    return OutcomeRecord(identity, float(value), item["source"])
