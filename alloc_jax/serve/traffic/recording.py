"""Recording: what the core decides goes into the file of decisions before it is done, and what it cost after."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, fields
from hashlib import blake2b

import numpy as np

from alloc_jax.learn.identity import describe_policy
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.logs.decisions import AGREEMENT, POLICY, Decided, DecisionLog, OutcomeRecord
from alloc_jax.serve.tickets import AnswerRequest, Refused, Ticket
from alloc_jax.serve.traffic.exploring import chances, draw, ticket_of

_SESSIONS = ("prompt_cache_key", "safety_identifier", "user")  # fields of a request that say what belongs together
_log = logging.getLogger("alloc_jax.serve")


@dataclass(frozen=True, eq=False)
class Beside(Prediction):
    """What the live policy predicts, and what a candidate does."""

    candidate: Prediction | None = None


class Recorder:
    """Explores and records for one core, which holds its lock.

    Args:
      log: the open file.
      policy: that decides.
      exploration: share of the decisions that are drawn evenly among what a question may get.
      candidate: a policy that decides beside it.
      share: of the decisions that are the candidate's; 0: it is only asked.
      rule: name of the rules that take the place of the policy's own choice; they are one more action.
      texts: whether questions are kept.

    Raises:
      ValueError: shares that are none, or a candidate that chooses among other actions or is paid in something else.
    """

    def __init__(
        self,
        log: DecisionLog,
        policy: Policy,
        *,
        exploration: float = 0.0,
        candidate: Policy | None = None,
        share: float = 0.0,
        rule: str | None = None,
        texts: bool = False,
    ):
        if not (exploration >= 0 and share >= 0 and exploration + share < 1):
            raise ValueError(f"exploration and a candidate's share are parts of 1, got {exploration:g} and {share:g}")
        if share and candidate is None:
            raise ValueError(f"a share of {share:g} is for a candidate: say which")
        self.log, self.policy, self.candidate = log, policy, candidate
        self.exploration, self.share, self.texts = exploration, share, texts
        self.menu = (*policy.actions, *((rule,) if rule else ()))
        self.number = log.number(describe_policy(policy, self.menu))
        self.beside = None
        if candidate is not None:
            paid = [(p.actions, p.resource, p.unit) for p in (policy, candidate)]
            if paid[0] != paid[1]:
                raise ValueError(f"the candidate chooses among {paid[1]}, the policy among {paid[0]}")
            self.beside = log.number(describe_policy(candidate))
        self.late: deque[tuple[str, float, int]] = deque()  # settlements that could not be written yet

    def predict(self, found: Prediction, text: str, budget: float | None) -> Prediction:
        """A prediction of the live policy, with the candidate's beside it."""
        if self.candidate is None:
            return found
        parts = {part.name: getattr(found, part.name) for part in fields(found)}
        return Beside(**parts, candidate=self.candidate.predict([text], budget))

    def explore(
        self, identity: str, live: str, prediction: Prediction, allowed: Collection[str], multiplier: float
    ) -> tuple[str, np.ndarray]:
        """What is done with a question, and the figures that are recorded.

        Args:
          identity: of the request, whose ticket draws.
          live: what the policy, or its rules, would do.
          prediction: of one question.
          allowed: names of what it may get.
          multiplier: that the candidate decides at.

        Returns:
          The action's name, and f32[3, K] predicted utility, predicted cost and chance of every action on the menu.
        """
        free = [name in allowed or name == live for name in self.menu]
        other = getattr(prediction, "candidate", None)
        theirs = None
        if other is not None and self.share:
            value = other.score[0] - multiplier * other.cost[0]
            theirs = int(np.where(free[: len(value)], value, -np.inf).argmax())
        chance = chances(free, self.menu.index(live), self.exploration, theirs, self.share)
        rest = [math.nan] * (len(self.menu) - len(self.policy.actions))
        rows = (prediction.score[0].tolist() + rest, prediction.cost[0].tolist() + rest, chance)
        figures = [[x if known else math.nan for x, known in zip(row, free, strict=True)] for row in rows]
        return self.menu[draw(chance, ticket_of(identity))], np.array(figures, np.float32)

    def decided(
        self,
        ticket: Ticket[AnswerRequest],
        kind: str,
        name: str,
        figures: np.ndarray | None,
        prediction: Prediction | None,
    ) -> None:
        """Write a decision.

        Raises:
          Refused: it cannot be written, and so must not be done.
        """
        question = ticket.asked
        if figures is None:
            figures = np.full((3, len(self.menu)), np.nan, np.float32)
        shadows = {}
        if self.beside is not None and kind == POLICY and (other := getattr(prediction, "candidate", None)) is not None:
            shadows[self.beside] = np.concatenate([other.score, other.cost])
        try:
            self.log.decided(
                Decided(
                    id=ticket.id,
                    tenant=ticket.tenant.name,
                    session=session_of(question),
                    kind=kind,
                    policy=self.number,
                    action=name,
                    budget=ticket.budget,
                    multiplier=None if ticket.decision is None else ticket.decision.multiplier,
                    figures=figures,
                    text=question.text if self.texts else None,
                    shadows=shadows,
                )
            )
        except sqlite3.Error as error:
            _log.error("the decision cannot be recorded: %s", error)
            raise Refused("busy", "the decision cannot be recorded", 5.0) from None

    def settled(self, identity: str, cost: float, samples: int) -> None:
        """Write what a request cost; where it cannot be written, as soon as it can."""
        self.late.append((identity, cost, samples))
        self.retry()

    def retry(self) -> None:
        """Write what could not be written, in its order."""
        while self.late:
            try:
                self.log.settled(*self.late[0])
            except sqlite3.Error as error:
                _log.error("what a request cost cannot be recorded: %s; %d wait", error, len(self.late))
                return
            self.late.popleft()

    def agreed(self, identity: str, share: float) -> None:
        """Write the share of a vote's samples that agree, which is a weak verdict on its answer."""
        try:
            self.log.judged([OutcomeRecord(identity, share, AGREEMENT)])
        except sqlite3.Error as error:  # a weak verdict less
            _log.warning("a vote's agreement cannot be recorded: %s", error)


def session_of(question: AnswerRequest) -> str:
    """What a request belongs to, as a hash: what its client says, or itself."""
    said = next(
        (value for name in _SESSIONS if isinstance(value := question.extra.get(name), str) and value), question.id
    )
    return blake2b(said.encode("utf-8", "replace"), digest_size=8).hexdigest()
