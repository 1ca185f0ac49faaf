"""A log replayed offline gets the live gateway's decisions, and pacing keeps a budget that a fixed multiplier does not."""

import numpy as np
import openai
import pytest

from alloc_jax.serve.core import Core
from alloc_jax.serve.ledger import Ledger
from alloc_jax.serve.replay import drifting, replay_stream
from alloc_jax.serve.tickets import Tenant
from alloc_jax.serve.web.gateway import Gateway
from alloc_jax.serve.web.upstream import Upstream
from tests.fake_server import Fake, served
from tests.serve.made import RECIPES, AgreementOfTwo, sums_log


@pytest.mark.parametrize("resource", [pytest.param("samples", marks=pytest.mark.long), "tokens"])
def test_the_spend_is_kept_when_difficulty_shifts_halfway(resource, policy, token_policy):
    made, budget = (policy, 3.0) if resource == "samples" else (token_policy, 75.0)
    log = sums_log(1000, seed=5)
    rows = drifting(log, 2000, late=(0.4, 0.7))  # where votes pay
    paced, fixed = replay_stream(made, log, budget, rows=rows), replay_stream(made, log, budget, rows=rows, step=0.0)
    assert abs(paced.spend / budget - 1) < 0.02
    assert abs(fixed.spend / budget - 1) > 0.05
    assert len(set(fixed.multiplier)) == 1 and paced.multiplier.min() < fixed.multiplier[0] < paced.multiplier.max()


@pytest.mark.long
def test_a_stream_that_does_not_drift_keeps_its_budget_and_its_accuracy(policy):
    log = sums_log(2000, seed=6)
    paced, fixed = replay_stream(policy, log, 3.0), replay_stream(policy, log, 3.0, step=0.0)
    assert abs(paced.spend / 3.0 - 1) < 0.02
    assert paced.correct.mean() > fixed.correct.mean() - 0.02


def test_the_stream_shifts_halfway():
    log = sums_log(500, seed=8)
    rows = drifting(log, 400, late=(0.5, 1.0))
    accuracy = log.correct.mean(axis=(1, 2))
    assert accuracy[rows[200:]].max() <= np.median(accuracy) and accuracy[rows[:200]].mean() > 0.5
    with pytest.raises(ValueError, match="late is a range"):
        drifting(log, 10, late=(0.5, 0.5))


def test_a_log_that_cannot_pay_is_named(policy, token_policy):
    log = sums_log(20, samples=2)
    with pytest.raises(ValueError, match=r"question 'q\d+' has 2 samples of 'm', not"):
        replay_stream(policy, log, 7.9)
    with pytest.raises(ValueError, match="its cost in prompt"):
        from dataclasses import replace

        replay_stream(token_policy, replace(sums_log(20), prompt_tokens=None), 75.0)


def test_dollars_that_the_log_states_are_what_a_stream_pays(token_policy):
    from dataclasses import replace

    log = sums_log(40, seed=3)
    log = replace(log, usd=log.completion_tokens * np.float32(1e-5))
    policy = replace(token_policy, resource="usd", unit="usd")
    ran = replay_stream(policy, log, 75.0)
    first = np.array([float(action.partition(",")[2].rstrip(")") or 1) for action in ran.action]).astype(int)
    paid = [log.usd[i, 0, :k].sum() for i, k in enumerate(first)]
    np.testing.assert_allclose(ran.cost, paid, rtol=1e-5)
    log.usd[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match=f"{log.ids[3]!r}: its cost in usd"):
        replay_stream(policy, log, 75.0)


class LoggedServer(Fake):
    """Gives a log's samples, in their order, to whoever asks."""

    def __init__(self, log):
        super().__init__()
        self.log, self.row, self.given = log, {text: i for i, text in enumerate(log.question)}, {}

    async def answer(self, body, number):
        from starlette.responses import JSONResponse

        i = self.row[body["messages"][-1]["content"]]
        at = self.given[i] = self.given.get(i, -1) + 1
        usage = {"prompt_tokens": 12, "completion_tokens": int(self.log.completion_tokens[i, 0, at])}
        text = f"It is {self.log.answers[i][self.log.answer[i, 0, at]]}"
        return JSONResponse({"choices": [{"message": {"content": text}}], "usage": usage})


@pytest.mark.parametrize("sequential", [False, True])
def test_decisions_are_those_of_the_live_gateway(token_policy, sequential):
    stopping = AgreementOfTwo(token_policy) if sequential else None
    log = sums_log(60, seed=7)
    log = log.select(sorted({text: i for i, text in enumerate(log.question)}.values()))
    offline = replay_stream(token_policy, log, 75.0, stopping=stopping)
    core = Core(token_policy, RECIPES, {"default": Tenant(budget=75.0)}, Ledger(), stopping=stopping)
    with served(LoggedServer(log).app()) as upstream, served(Gateway(core, Upstream(upstream)).app()) as url:
        client = openai.OpenAI(base_url=url, api_key="none")
        live = []
        for question in log.question:
            raw = client.chat.completions.with_raw_response.create(
                model="alloc/auto", messages=[{"role": "user", "content": question}]
            )
            live.append((raw.headers["x-alloc-action"], raw.headers["x-alloc-multiplier"]))
        client.close()
    assert live == [(a, f"{p:.6g}") for a, p in zip(offline.action, offline.multiplier, strict=True)]
    assert core.account("default").spent == pytest.approx(offline.cost.sum())
    assert len({multiplier for _, multiplier in live}) > 30 and sequential != (len({action for action, _ in live}) > 1)
    assert np.isclose(core.multiplier("default"), offline.multiplier[-1], rtol=0.2)
