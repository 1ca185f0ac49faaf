"""The decision core: a question in, a ticket out, and a settled account at the end.

The live gateway and the offline replay of a log run this same code, so a replay decides as the gateway would have.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from alloc_jax.actions import Action
from alloc_jax.collect.recipes import Recipe
from alloc_jax.learn.identity import fingerprint
from alloc_jax.learn.policy import Policy, Prediction
from alloc_jax.logs.decisions import POLICY
from alloc_jax.serve.allocator import Decision, decide
from alloc_jax.serve.checks import check_core, try_policy
from alloc_jax.serve.ledger import Account, Ledger, LedgerFault, Settlement
from alloc_jax.serve.meter import Meter
from alloc_jax.serve.multipliers import Multipliers
from alloc_jax.serve.pacing import Pace, make_pace
from alloc_jax.serve.planning.allowed_actions import permitted, within
from alloc_jax.serve.planning.voting import Verdict
from alloc_jax.serve.reservation import Reservations
from alloc_jax.serve.sessions import Sessions, earlier, mixed
from alloc_jax.serve.start.cold import ColdPolicy
from alloc_jax.serve.tickets import (
    AnswerRequest,
    Passed,
    Pooled,
    Refused,
    SamplingPlan,
    Stopping,
    Tenant,
    Ticket,
    why_fixed,
    why_one,
)
from alloc_jax.serve.traffic.exploring import priced
from alloc_jax.serve.traffic.recording import Recorder
from alloc_jax.serve.verdicts.verifier import JUDGED, Verifier, judged_policy, priced_plan
from alloc_jax.stopping.pandora import Verdicts
from alloc_jax.stopping.rules import lottery


class Core:
    """Decides, reserves and settles; safe to use from several threads.

    Args:
      policy: trained.
      recipes: how each source of its actions is asked for.
      tenants: by name.
      ledger: where the money is.
      meter: counts in the policy's unit.
      cap: counts in the unit of the caps; by default the policy's own.
      stopping: rules that draw sample by sample, and take the place of the policy's own choice.
      verifier: decides best_of and passes, and is paid for it.
      verdicts: what its rewards say, by which best_of stops as soon as another sample is not worth its cost.
      in_turn: samples with a verdict are drawn one after the other.
      step: of the pace; 0 keeps every multiplier where the calibration put it.
      quantile: of the measured costs of an action, that a cap which is not hard reserves.
      longest: characters of a question that the policy reads, half at its beginning and half at its end.
      recorder: explores, and writes every decision down before it is done.
      history: messages of the user before the last one, that the policy reads, too.
      history_weight: how much each of them counts, in units of the one after it.
      warm_s: for which a source's cache holds a conversation, in seconds, where dollars are paid; 0: not at all.
      clock: seconds.

    Raises:
      ValueError: an action that cannot be served, a source without a recipe, weights that do not fit, a budget below the
        cheapest plan, or a cap that cannot be kept.
    """

    def __init__(
        self,
        policy: Policy,
        recipes: Mapping[str, Recipe],
        tenants: Mapping[str, Tenant],
        ledger: Ledger,
        *,
        meter: Meter | None = None,
        cap: Meter | None = None,
        stopping: Stopping | None = None,
        verifier: Verifier | None = None,
        verdicts: Verdicts | None = None,
        in_turn: bool = True,
        step: float = 0.06,
        quantile: float = 0.9,
        longest: int = 8192,
        recorder: Recorder | None = None,
        history: int = 0,
        history_weight: float = 0.0,
        warm_s: float = 0.0,
        clock: Callable[[], float] = time.time,
    ):
        policy = policy if verifier is None else judged_policy(policy, verifier)
        self.policy, self.recipes, self.tenants, self.ledger = policy, recipes, tenants, ledger
        self.verifier, self.verdicts, self.in_turn = verifier, verdicts, in_turn
        self.meter = meter or Meter(policy.resource, policy.unit)
        self.stopping, self.step, self.longest, self.recorder = stopping, step, longest, recorder
        self.actions = {name: Action.parse(name) for name in policy.actions}
        self.cap = cap or self.meter  # counts in the unit of the caps
        self.history, self.history_weight = history if history_weight else 0, history_weight
        kept = warm_s if policy.resource == "usd" else 0.0
        self.sessions = Sessions(recipes, self.meter.prices, kept, clock)
        check_core(self)
        _ = self.judging  # which may not be known
        try_policy(policy)
        self.reservations = Reservations(policy, recipes, ledger, self.cap, quantile, clock)
        self.reservations.check(tenants, policy)
        mark = f"{policy.unit}, {fingerprint(policy)}" + (f" {stopping.mark}" if stopping else "")
        mean = policy.calibration_cost.mean(axis=0, dtype=np.float64)
        self.means = dict(zip(policy.actions, map(float, mean), strict=True))
        self.multipliers = Multipliers(self._pace, tenants, ledger, mark)
        self._beside = {}  # the pace that a candidate would have, by tenant
        if recorder is not None and recorder.candidate is not None:
            budgets = {name: tenant.budget for name, tenant in tenants.items() if tenant.budget is not None}
            self._beside = {name: make_pace(recorder.candidate, budget, step) for name, budget in budgets.items()}
        self._lock = threading.Lock()

    def predict(self, question: AnswerRequest) -> Prediction | None:
        """What the policy predicts, which takes its time where the text is long; None where the client names the action."""
        if question.action is not None:
            return None
        budget, half = question.budget or self.tenants[question.tenant].budget, self.longest // 2
        texts = [question.text, *earlier(question.messages, self.history)]
        short = [text if len(text) <= self.longest else text[:half] + text[-half:] for text in texts]
        several = [self.policy.predict([text], budget) for text in short]
        found = several[0] if len(several) == 1 else mixed(several, self.history_weight)
        return found if self.recorder is None else self.recorder.predict(found, short[0], budget)

    def admit(self, question: AnswerRequest, prediction: Prediction | None = None) -> Ticket[AnswerRequest]:
        """Decide on a question, and reserve what it may cost.

        Args:
          question: what is asked, and by whom.
          prediction: of `predict`, where it was made before.

        Raises:
          Refused: it cannot be done as asked, it may not be asked for, or the cap leaves no room.
        """
        tenant = self.tenants[question.tenant]
        single = why_one(question, tenant)
        allowed = permitted(question, tenant, self.actions, self.recipes, single is not None)
        prediction = prediction or self.predict(question)
        with self._lock:
            kind, figures = why_fixed(question, single), None
            chosen: Action | Pooled
            if prediction is None:
                decision, plan, chosen = None, None, self.actions[question.action]
                expected = self.means[question.action]
            else:
                multiplier = self.multipliers.multiplier(tenant.name, question.budget)
                decision, plan, chosen = self._decide(prediction, multiplier, allowed, question, single is not None)
                if self.recorder is not None and kind == POLICY:
                    decision, plan, chosen, figures = self._explore(
                        decision, plan, chosen, prediction, allowed, question
                    )
                expected = decision.cost
            ticket = Ticket(
                asked=question,
                tenant=tenant,
                action=chosen,
                decision=decision,
                plan=plan,
                single=single,
                window=self.reservations.window(tenant),
                budget=None if tenant.budget is None else question.budget or tenant.budget,
                expected=expected,
            )
            opened = self._open(_narrowed(ticket))
            if opened is None and decision is not None and tenant.exhausted == "cheapest":
                cheapest = min(decision.predicted, key=lambda name: decision.predicted[name][1])
                if cheapest != chosen.name:
                    cost = decision.predicted[cheapest][1]
                    ticket = replace(ticket, action=self.actions[cheapest], expected=cost, plan=None)
                    kind, figures = "cap", None
                    opened = self._open(_narrowed(ticket))
            if opened is None:
                raise self._exhausted(tenant)
            if self.recorder is not None:
                self._record(opened, kind, figures, prediction)
            return opened

    def admit_passed(self, passed: Passed) -> Ticket[Passed]:
        """Reserve for a request that goes to a model as it is; it falls under the cap, and moves no multiplier.

        Raises: see `admit`.
        """
        tenant = self.tenants[passed.tenant]
        if tenant.models is not None and passed.model not in tenant.models:
            raise Refused("forbidden", f"model {passed.model!r} is not open to tenant {tenant.name!r}")
        ticket = Ticket(asked=passed, tenant=tenant, window=self.reservations.window(tenant))
        with self._lock:
            opened = self._open(ticket)
        if opened is None:
            raise self._exhausted(tenant)
        return opened

    def extend(self, ticket: Ticket, samples: int) -> bool:
        """Reserve for samples that are drawn again, where what was sent may have been charged; False where the cap forbids it."""
        with self._lock:
            return self.reservations.extend(ticket, samples)

    def settle(
        self, ticket: Ticket, cost: float | None, charged: float, samples: int, prompt: float, completion: float
    ) -> bool:
        """Close a ticket with what it really cost; where the ledger cannot be written, as soon as it can.

        Args:
          ticket: from `admit`.
          cost: in the policy's unit; None where the upstream did not say, and what was expected stands.
          charged: in the cap's unit.
          samples: that came.
          prompt: tokens that the upstream counted.
          completion: likewise.

        Returns:
          False where it was settled before.
        """
        cost = ticket.expected if cost is None else cost
        final = Settlement(
            charged=charged, cost=cost, samples=samples, prompt_tokens=prompt, completion_tokens=completion
        )
        with self._lock:
            move = self.multipliers.move(ticket, cost - ticket.expected)
            account = self.multipliers.accounts[ticket.tenant.name] if move is not None else None
            if ticket.action is None:
                account = self.reservations.passed(ticket.tenant, self.policy.unit)
            if not self.reservations.settle(ticket, final, account, move):
                return False
            if self.recorder is not None and ticket.action is not None:
                self.recorder.settled(ticket.id, cost, samples)
        return True

    def note(self, ticket: Ticket, prompt: Mapping[str, float | None]) -> None:
        """Remember by whom a conversation was answered, with how many tokens of a prompt by source."""
        with self._lock:
            self.sessions.note(ticket, prompt)

    def learn(self, ticket: Ticket, samples: int, verdict: Verdict, cost: float | None) -> None:
        """Tell the record, and a policy that learns from the traffic, how well the samples of a question agree, and what they cost."""
        if self.recorder is not None and samples > 1 and verdict.score is None:
            self.recorder.agreed(ticket.id, verdict.share)
        if isinstance(self.policy, ColdPolicy) and isinstance(ticket.action, Action) and cost is not None:
            with self._lock:
                self.policy.learn(ticket.action, samples, verdict.share, cost)

    def retry(self) -> None:
        """Settle what the ledger could not take, if it can now."""
        with self._lock:
            self.reservations.retry()
            if self.recorder is not None:
                self.recorder.retry()

    def settle_lost(self) -> None:
        """Settle what other processes on the same ledger left open when they died."""
        with suppress(LedgerFault):
            self.ledger.settle_lost()

    def close(self) -> None:
        """Settle what still can be, and let go of the ledger."""
        self.retry()
        self.ledger.close()
        if self.recorder is not None:
            self.recorder.log.close()

    def multiplier(self, tenant: str) -> float:
        """A tenant's multiplier now; 0 without a budget."""
        return self.multipliers.multiplier(tenant)

    def account(self, tenant: str) -> Account:
        """Where a tenant stands; empty where it has no budget."""
        return self.multipliers.account(tenant)

    def passed(self, tenant: str) -> Account:
        """What a tenant has passed through."""
        return self.reservations.account(self.reservations.passed(self.tenants[tenant], self.policy.unit))

    # -----------------------------------------------------------------------------------------------------------

    def _pace(self, budget: float) -> Pace:
        def of_rest(budget: float) -> Pace:
            if self.stopping is not None:
                return self.stopping.pace(budget, self.step)
            return make_pace(self.policy, budget, self.step)

        exploration = self.recorder.exploration if self.recorder else 0.0
        return priced(of_rest, budget, exploration, sum(self.means.values()) / len(self.means))

    def _decide(
        self, prediction: Prediction, multiplier: float, allowed: Collection[str], question: AnswerRequest, single: bool
    ) -> tuple[Decision, SamplingPlan | None, Action | Pooled]:
        """The best action; or the stopping rule's, whose utility nobody predicts, where all its sources may be asked again and again."""
        if (more := self.sessions.more(question, self.actions)) is not None:
            prediction = Prediction(prediction.score, prediction.cost + more, prediction.spread)
        decision = decide(self.policy, prediction, multiplier, allowed)
        stopping = None if single else self.stopping
        if stopping is None or not all(within(self.recipes[name], question.effort) for name in stopping.sources):
            chosen = self.actions[decision.action]
            if single or not self.in_turn or chosen.aggregator not in JUDGED or decision.utility is None:
                return decision, None, chosen
            plan = priced_plan(chosen, decision.utility, decision.cost, multiplier, self.verdicts)
            return decision if plan is None else replace(decision, cost=plan.expected), plan, chosen
        ticket = float(lottery([question.text])[0])  # the same text always gets the same rule
        plan = stopping.plan(prediction, multiplier, question.max_samples, ticket, question.text)
        decision = replace(decision, action=plan.action.name, utility=None, spread=None, cost=plan.expected)
        return replace(decision, runner_up=None, margin=math.inf), plan, plan.action

    def _explore(
        self, decision: Decision, plan: SamplingPlan | None, chosen: Action | Pooled, prediction: Prediction,
        allowed: Collection[str], question: AnswerRequest,
    ) -> tuple[Decision, SamplingPlan | None, Action | Pooled, np.ndarray]:  # fmt: skip
        """What is done instead where the ticket falls on exploration or a candidate, and the figures of the decision."""
        pace = self._beside.get(question.tenant)
        theirs = 0.0 if pace is None else self.multipliers.drifted(question.tenant, pace)
        live = self._name(plan, chosen)
        name, figures = self.recorder.explore(question.id, live, prediction, allowed, theirs)
        if name == live:
            return decision, plan, chosen, figures
        return decide(self.policy, prediction, decision.multiplier, (name,)), None, self.actions[name], figures

    def _record(self, ticket: Ticket, kind: str, figures: np.ndarray | None, prediction: Prediction | None) -> None:
        """Write a decision down; where that fails, nothing is done and nothing charged."""
        try:
            self.recorder.decided(ticket, kind, self._name(ticket.plan, ticket.action), figures, prediction)
        except Refused:
            nothing = Settlement(charged=0.0, cost=0.0, samples=0, prompt_tokens=0.0, completion_tokens=0.0)
            back = self.multipliers.move(ticket, (ticket.budget or 0.0) - ticket.expected)
            account = None if back is None else self.multipliers.accounts[ticket.tenant.name]
            self.reservations.settle(ticket, nothing, account, back, counted=False)
            raise

    def _name(self, plan: SamplingPlan | None, action: Action | Pooled) -> str:
        """What a decision is called in the record: rules take the place of the policy's own actions, a plan by verdicts does not."""
        return action.name if plan is None or plan.rule is None else plan.rule

    def _open(self, ticket: Ticket) -> Ticket | None:
        """The ticket with its reservation, which the ledger holds from here on; None where the cap forbids it."""
        tenant = ticket.tenant
        if tenant.cap is not None:
            worst = self.reservations.worst_sample(tenant, ticket.asked, ticket.sources)
            if ticket.action is not None and ticket.action.aggregator in JUDGED:
                worst += self.judging[1]
            ticket = replace(ticket, worst=worst)
            ticket = replace(ticket, reserved=self.reservations.amount(ticket))
        # The expected cost moves the multiplier now; settling corrects it.
        move = self.multipliers.move(ticket, ticket.expected - (ticket.budget or 0.0))
        account = None if move is None else self.multipliers.accounts[tenant.name]
        return ticket if self.reservations.open(ticket, account, move) else None

    @property
    def judging(self) -> tuple[float, float]:
        """What a verdict costs, in the policy's unit and in the caps'."""
        if self.verifier is None:
            return 0.0, 0.0
        same = (self.cap.resource, self.cap.unit) == (self.policy.resource, self.policy.unit)
        return self.verifier.cost, self.verifier.charged(same or all(t.cap is None for t in self.tenants.values()))

    def _exhausted(self, tenant: Tenant) -> Refused:
        left = tenant.window_s - self.reservations.clock() % tenant.window_s
        return Refused("exhausted", f"tenant {tenant.name!r} has no room left below its cap of {tenant.cap:g}", left)


def _narrowed(ticket: Ticket) -> Ticket:
    """The ticket with one sample, where that is all it gets."""
    action = ticket.action
    if ticket.single is None or ticket.one or not action.samples:
        return ticket
    return replace(ticket, action=Action(action.source, 1), expected=ticket.expected / action.samples)
