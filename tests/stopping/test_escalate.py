"""Escalation: patterns, beliefs, backward induction, and the rules that are served."""

import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from alloc_jax.evaluate.sequential.escalation import replay_escalation, served_paths
from alloc_jax.stopping.sources import solver
from alloc_jax.stopping.sources.beliefs import Classes, log_odds, tables
from alloc_jax.stopping.sources.latent import fit_classes, read_kinds
from alloc_jax.stopping.sources.patterns import all_moves, best_moves, likeliest, make_patterns
from alloc_jax.stopping.sources.rules import FILE, load_escalation
from alloc_jax.stopping.sources.solver import solve_escalation
from alloc_jax.stopping.sources.solver_input import BELIEFS, Promise
from alloc_jax.stopping.sources.superprocess import certify, solve_patterns, whittle
from alloc_jax.stopping.sources.walks import answered_questions, make_walks
from alloc_jax.types import SampleLog, Source
from tests.conftest import made_log

SOURCES = ("cheap", "middle", "dear")
LIMITS = (1, 1, 1)
VARIANTS = 1_000_000


def made_answers(questions=400, seed=0, samples=1, accuracy=(0.6, 0.7, 0.9), trap=0.2) -> SampleLog:
    """Three sources whose difficulty is shared: hard questions have one tempting wrong answer."""
    rng = np.random.default_rng(seed)
    hard = rng.random(questions) < 0.4
    shape = (questions, 3, samples)
    chance = np.clip(np.array(accuracy) + np.where(hard, -0.35, 0.1)[:, None], 0.02, 0.98)
    correct = rng.random(shape) < chance[:, :, None]
    wrong = np.where(rng.random(shape) < trap, 1, rng.integers(2, 20, shape))
    return SampleLog(
        ids=tuple(f"q{i}" for i in range(questions)),
        question=tuple(f"a {'hard' if h else 'plain'} question {i}" for i, h in enumerate(hard)),
        gold=("0",) * questions,
        group=(None,) * questions,
        sources=tuple(Source(name) for name in SOURCES),
        answers=(tuple(map(str, range(20))),) * questions,
        count=np.full((questions, 3), samples, np.int32),
        answer=np.where(correct, 0, wrong).astype(np.int32),
        correct=correct,
        usd=np.broadcast_to(np.float32([1, 3, 10])[:, None], shape).copy(),
        latency_s=np.broadcast_to(np.float32([1, 2, 5])[:, None], shape).copy(),
    )


@pytest.fixture(scope="module")
def answers():
    return made_answers()


@pytest.fixture(scope="module")
def frontier(answers):
    return solve_escalation(answers, SOURCES, resource="usd", beliefs=("independent", "classes"))


def some_classes(seed=0, classes=2, sources=3) -> Classes:
    rng = np.random.default_rng(seed)
    weight = rng.dirichlet(np.ones(classes)).astype(np.float32)
    return Classes(
        weight,
        np.ones(sources, np.float32),
        np.zeros(sources, np.float32),
        rng.normal(size=(classes, sources)).astype(np.float32),
        rng.dirichlet(np.ones(4), (classes, sources)).astype(np.float32),
        rng.uniform(0, 0.5, size=(classes, sources)).astype(np.float32),
        np.ones((classes, sources, 2), np.float32),
        weight[None],
    )


def drawn(model: Classes, promised: np.ndarray, many: int, seed=1) -> np.ndarray:
    """i64[many, M] answers: 0 right, 1 and 2 traps, from 10 on stray, from VARIANTS on right, too, -1 none."""
    rng = np.random.default_rng(seed)
    prior = model.prior(np.zeros((1, 0)))
    z = rng.choice(len(model.weight), many, p=prior[0] / prior[0].sum())
    kinds = model.chances(promised[None], prior)[0][z].cumsum(axis=-1)
    kind = (rng.random((*kinds.shape[:2], 1)) > kinds).sum(axis=-1).clip(0, 5)
    alone = np.arange(kind.size).reshape(kind.shape) + np.where(kind == 4, VARIANTS, 10)
    return np.where((kind == 3) | (kind == 4), alone, np.where(kind == 5, -1, kind))


def walked(patterns, answers, order):
    """(state, answers behind the blocks) after samples of one question."""
    state, held = 0, []
    for m in order:
        code = answers[m]
        at = held.index(code) if code in held else None
        outcome = patterns.outcome(len(held), at, code >= 0)
        stands = patterns.order[state, m, outcome]
        state = patterns.next[state, m, outcome]
        known = [*held, *[None] * (patterns.blocks - len(held)), code]
        held = [known[b] for b in stands[: patterns.kept[state]]]
    return state, held


def test_the_order_of_samples_does_not_matter():
    patterns = make_patterns(LIMITS, 3)
    for answers in product((-1, 0, 1, 2), repeat=3):
        ends = {walked(patterns, answers, order)[0] for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0))}
        assert len(ends) == 1, answers


def test_outcomes_of_a_draw_sum_to_one_and_posteriors_are_chances():
    patterns = make_patterns((2, 1, 1), 4, blocks=2)
    table = tables(some_classes(), patterns, np.zeros((2, 3), np.float32))
    may = (patterns.next >= 0).any(axis=-1)
    np.testing.assert_allclose(table.chance.sum(axis=-1)[:, may], 1, rtol=1e-5)
    assert (table.right < 1 + 1e-5).all()
    # What a way of drawing looks like is worth what its outcomes are together.
    after = np.where(patterns.next >= 0, table.reach[:, np.maximum(patterns.next, 0)], 0).sum(axis=-1)
    before = np.broadcast_to(table.reach[:, :, None], after.shape)
    np.testing.assert_allclose(after[:, may], before[:, may], rtol=1e-4)


def test_posteriors_are_those_of_the_model_that_drew_the_answers():
    model, patterns, promised = some_classes(3), make_patterns(LIMITS, 3), np.float32([0.2, 0.5, 1.0])
    table = tables(model, patterns, promised[None])
    seen, right = np.zeros(len(patterns)), np.zeros(len(patterns))
    for row in drawn(model, promised, 40_000):
        state, held = walked(patterns, row.tolist(), (0, 1, 2))
        best = table.right[0, state].argmax()
        seen[state] += 1
        right[state] += best < len(held) and (held[best] == 0 or held[best] >= VARIANTS)
    often = seen > 400
    assert often.sum() > 4
    error = 4 * np.sqrt(0.25 / seen[often])
    assert (np.abs(right[often] / seen[often] - table.right[0, often].max(axis=-1)) < error).all()


@pytest.mark.long
def test_em_finds_the_classes_that_drew_the_answers():
    log = made_answers(3000, samples=3, trap=0.7)
    kinds = read_kinds(log, SOURCES, verified=False)
    promised = np.broadcast_to(log_odds(log.correct.mean(axis=(0, 2))), (len(log), 3))
    one, two = (fit_classes(kinds, promised, z) for z in (1, 2))
    chance = two.chances(promised[:1], two.prior(np.zeros((1, 0))))[0, :, :, 0]
    easy, hard = chance[chance[:, 0].argsort()[::-1]]
    np.testing.assert_allclose(hard, [0.25, 0.35, 0.55], atol=0.06)
    np.testing.assert_allclose(easy, [0.7, 0.8, 0.98], atol=0.06)
    assert np.abs(one.chances(promised[:1], np.ones((1, 1)))[0, 0, :, 0] - log.correct.mean(axis=(0, 2))).max() < 0.02
    assert (two.spread[..., 0] > 0.4).all()  # the trap


@pytest.mark.long
def test_right_answers_that_are_written_differently_are_no_sign_of_errors():
    """Half of the questions have many right answers, and wrong ones alike: there two that differ say nothing."""
    log = made_answers(3000, seed=4)
    many = np.arange(3000) % 2 == 0
    own = 20 + np.arange(3)[:, None]
    answer = np.where(many[:, None, None] & log.correct, own, log.answer)
    log = replace(log, answer=answer, answers=(tuple(map(str, range(23))),) * 3000)
    kinds, promised = read_kinds(log, SOURCES, False), np.full((3000, 3), 1.0, np.float32)
    features = np.c_[many, np.random.default_rng(0).normal(size=3000)].astype(np.float32)
    model = fit_classes(kinds, promised, 4, features)
    told = np.float32([[1, 0], [0, 0]])
    varied = model.prior(told) @ model.variant.mean(axis=1)
    assert varied[0] > 0.5 and varied[1] < 0.15
    patterns = make_patterns(LIMITS, 3)
    state = walked(patterns, [5, 6, -1], (0, 1))[0]
    right = tables(model, patterns, promised[:2], told).right[:, state]
    assert right[0, :2].min() > right[1, :2].min() + 0.15 and right[0, :2].sum() > 1


def brute_force(patterns, right, chance, cost, multiplier, state=0, rounds=None):
    """The value of a state by trying everything."""
    stop = right[state] if state else -np.inf
    if rounds == 0:
        return stop
    best = stop
    for m in range(patterns.sources):
        to = patterns.next[state, m]
        if (to >= 0).any():
            left = None if rounds is None else rounds - 1
            after = sum(
                p * brute_force(patterns, right, chance, cost, multiplier, s, left)
                for p, s in zip(chance[state, m], to, strict=True)
                if s >= 0
            )
            best = max(best, after - multiplier * cost[m])
    return best


@pytest.mark.parametrize("rounds", [None, 2])
def test_backward_induction_is_the_best_of_all_rules(rounds):
    patterns, cost = make_patterns(LIMITS, 3), np.float32([1, 3, 10])
    table = tables(some_classes(5), patterns, np.zeros((1, 3), np.float32))
    right = table.right.max(axis=-1)
    for multiplier in (0.001, 0.01, 0.05, 0.3):
        move, value = best_moves(
            right[0], table.chance[0], cost, patterns.next, multiplier, patterns.bounds, all_moves(3, 1), rounds
        )
        assert value == pytest.approx(
            brute_force(patterns, right[0], table.chance[0], cost, multiplier, rounds=rounds), abs=1e-5
        )
        plan = solve_patterns(
            patterns, right, table.chance, cost[None], np.array([multiplier]), all_moves(3, 1), rounds
        )
        np.testing.assert_array_equal(plan.move[0, :, 0], move)
        assert float(plan.value[0, 0]) == pytest.approx(float(value), abs=1e-5)


def test_waves_are_worth_no_more_than_single_draws_and_more_than_fewer_rounds():
    patterns, cost = make_patterns(LIMITS, 3), np.float32([[1, 3, 10]])
    table = tables(some_classes(6), patterns, np.zeros((1, 3), np.float32))
    given = (patterns, table.right.max(axis=-1), table.chance, cost, np.array([0.002]))
    free = solve_patterns(*given, all_moves(3, 1)).value[0, 0]
    once, twice = (solve_patterns(*given, all_moves(3, 3), rounds).value[0, 0] for rounds in (1, 2))
    alone = solve_patterns(*given, all_moves(3, 1), 1).value[0, 0]
    assert alone <= once <= twice + 1e-6 and twice <= free + 1e-6
    assert once < free


def test_one_source_has_an_index():
    """With one source the only way on is to draw again: the same move at all multipliers."""
    patterns = make_patterns((5,), 5)
    table = tables(some_classes(2, sources=1), patterns, np.zeros((1, 1), np.float32))
    plan = solve_patterns(
        patterns, table.right.max(axis=-1), table.chance, np.ones((1, 1)), np.geomspace(1, 1e-4, 16), all_moves(1, 1)
    )
    assert whittle(plan.move[:, 0], table.reach) == 1
    goes = plan.move[:, 0, 0] > 0
    assert (goes[1:] >= goes[:-1]).all()  # a lower multiplier draws wherever a higher one does


def test_the_bound_holds_for_rules_that_may_go_on():
    cost, multipliers = np.float32([[1, 3, 10]]), np.array([0.002, 0.02, 0.1])
    model, promised = some_classes(7), np.zeros((1, 3), np.float32)

    def certified(cap):
        patterns = make_patterns(LIMITS, cap)
        table = tables(model, patterns, promised)
        return certify(
            patterns, table.right.max(axis=-1), table.chance, table.reach, cost, multipliers, all_moves(3, 1)
        )

    short, whole = certified(2), certified(3)
    assert (short.value <= whole.value + 1e-6).all() and (whole.value <= short.bound + 1e-6).all()
    np.testing.assert_allclose(whole.bound, whole.value, atol=1e-6)
    assert (short.bound > short.value + 1e-4).any() and 0 <= short.whittle <= 1


def test_a_budget_is_spent_on_new_questions_and_beats_single_sources(answers, frontier):
    new = made_answers(4000, seed=9)
    walks = make_walks(new, SOURCES, LIMITS, resource="usd")
    right, cost = new.correct[:, :, 0].mean(axis=0), np.array([1, 3, 10])
    for budget in (6.0, 8.0):
        played = replay_escalation(frontier.at(budget), walks)
        assert played.outcome.cost.mean() == pytest.approx(budget, rel=0.1)
        assert played.outcome.utility.mean() > np.interp(played.outcome.cost.mean(), cost, right)
        assert played.seconds.mean() > 0


def test_serving_walks_the_paths_that_replay_does(answers, frontier):
    walks = make_walks(answers, SOURCES, LIMITS, resource="usd")
    rule = frontier.at(float(frontier.spend[len(frontier.spend) // 2]))
    paths = served_paths(rule, answers, walks)
    played = replay_escalation(rule, walks)
    cost = np.array([np.float32([1, 3, 10])[list(path.sources)].sum() for path in paths])
    assert rule.weight in (0, 1) or rule.less != rule.more
    np.testing.assert_allclose(cost.mean(), played.outcome.cost.mean(), rtol=0.03)
    np.testing.assert_allclose(np.mean([p.right for p in paths]), played.outcome.utility.mean(), atol=0.02)


def test_tickets_spend_the_budget_and_a_mix_asks_for_one(answers, frontier):
    middle = float(frontier.spend[:2].mean())
    rule = frontier.at(middle)
    assert 0 < rule.weight < 1
    with pytest.raises(ValueError, match="a ticket says which of them"):
        rule.start()
    with pytest.raises(ValueError, match=r"number in \[0, 1\), got 1"):
        rule.start(ticket=1.0)
    moves = [rule.start(ticket=f"text {i}").move for i in range(400)]
    dearer = np.mean([np.array_equal(move, rule.start(ticket=0.0).move) for move in moves])
    assert dearer == pytest.approx(rule.weight, abs=0.1)


@pytest.mark.parametrize("beliefs", [("independent",), ("one step ahead",)])
@pytest.mark.parametrize(
    ("wave", "rounds", "most"), [(1, 1, 1), (2, 1, 2), pytest.param(2, 2, 4, marks=pytest.mark.long)]
)
def test_no_rule_goes_on_beyond_its_rounds(wave, rounds, most, beliefs):
    log = made_answers(200, samples=2)
    found = solve_escalation(
        log, SOURCES, resource="usd", limits=(2, 2, 2), cap=4, wave=wave, rounds=rounds, beliefs=beliefs
    )
    walks = make_walks(log, SOURCES, (2, 2, 2), resource="usd")
    for budget in (found.spend[0], found.spend[-1]):
        rule = found.at(float(budget))
        paths = served_paths(rule, log, walks)
        assert max(len(path.sources) for path in paths) <= most
        cost = np.array([np.float32([1, 3, 10])[list(path.sources)].sum() for path in paths]).mean()
        assert cost == pytest.approx(replay_escalation(rule, walks).outcome.cost.mean(), rel=0.05)
    question = found.at(float(found.spend[-1])).start(ticket=0.0)
    for _ in range(rounds):
        move = rule.decide(question)
        question = question.after(move, [None] * len(move)) if move else question
    assert rule.decide(question) == ()


@pytest.mark.parametrize("answers_given", ["42", [], ["1", "2"]])
def test_a_move_has_as_many_answers_as_samples(frontier, answers_given):
    question = frontier.at(float(frontier.spend[-1])).start(ticket=0.0)
    with pytest.raises(ValueError, match="as many answers in a list"):
        question.after((0,), answers_given)
    with pytest.raises(ValueError, match="positions from 0 to 2"):
        question.after((-1,), ["1"])


def test_replay_refuses_what_the_rules_were_not_made_for(answers, frontier):
    walks, rule = make_walks(answers, SOURCES, LIMITS, resource="usd"), frontier.at(float(frontier.spend[-1]))
    with pytest.raises(ValueError, match="samples of 2 sources"):
        replay_escalation(rule, make_walks(answers, SOURCES[:2], (1, 1), resource="usd"))
    with pytest.raises(ValueError, match="walks of 0 questions"):
        replay_escalation(rule, walks.select(np.arange(0)))
    promise = Promise(np.full((400, 3), 0.5))
    read = solve_escalation(answers, SOURCES, resource="usd", promise=promise, beliefs=("independent",)).at(5.0)
    with pytest.raises(ValueError, match="promised accuracy is 400 x 3, got shape"):
        replay_escalation(read, walks, Promise(np.full((50, 3), 0.5)))


def test_one_question_is_no_nan():
    found = solve_escalation(made_answers(1), SOURCES, resource="usd")
    assert np.isfinite([*found.net_utility, *found.bound, *found.utility]).all()


def test_a_strong_source_outvotes_two_weak_ones_that_agree():
    log = made_answers(3000, accuracy=(0.3, 0.3, 0.97), trap=0.9)
    found = solve_escalation(log, SOURCES, resource="usd", beliefs=("classes",))
    question = found.at(found.spend[-1]).start(ticket=0.0)
    question = question.after((0,), ["7"]).after((1,), ["7"]).after((2,), ["8"])
    assert question.answer == "8" and question.posterior > 0.5


def test_rules_are_saved_and_decide_without_jax(frontier, tmp_path):
    frontier.save(tmp_path)
    code = (
        "import sys; from alloc_jax.stopping.sources.rules import load_escalation\n"
        f"rule = load_escalation({str(tmp_path)!r}).at(4.0)\n"
        "question = rule.start([0.6, 0.7, 0.9], ticket='a question')\n"
        "while move := rule.decide(question): question = question.after(move, ['12'] * len(move))\n"
        "assert question.answer == '12'\n"
        "print('jax' in sys.modules, question.path)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rule = frontier.at(4.0)
    question = rule.start([0.6, 0.7, 0.9], ticket="a question")
    while move := rule.decide(question):
        question = question.after(move, ["12"] * len(move))
    assert done.stdout.split(maxsplit=1) == ["False", f"{question.path}\n"]
    (tmp_path / FILE).write_bytes(b"no archive")
    with pytest.raises(ValueError, match="damaged"):
        load_escalation(tmp_path)
    with pytest.raises(ValueError, match="missing"):
        load_escalation(tmp_path / "none")


def test_a_decision_takes_microseconds(frontier):
    question, rule = frontier.at(4.0).start(ticket=0.5), frontier.at(4.0)
    begin = time.perf_counter()
    for _ in range(1000):
        rule.decide(question)
    assert (time.perf_counter() - begin) / 1000 < 100e-6


def scored(log, told, seed=0):
    """The log with a reward beside every sample that tells whether it is right: by so many deviations."""
    noise = np.random.default_rng(seed).normal(size=log.correct.shape)
    return replace(log, reward=(told * log.correct + noise).astype(np.float32))


@pytest.mark.long
@pytest.mark.parametrize("told", [2.0, 0.0])
def test_a_reward_that_tells_helps_and_noise_changes_nothing(told):
    log, new = scored(made_answers(1500, seed=1), told), scored(made_answers(4000, seed=2), told, seed=1)
    walks = make_walks(new, SOURCES, LIMITS, resource="usd", evidence="reward")
    plain, read = (
        solve_escalation(log, SOURCES, resource="usd", beliefs=("classes",), evidence=evidence)
        for evidence in (None, "reward")
    )
    for budget in (3.0, 6.0):
        without, with_it = (replay_escalation(rules.at(budget), walks).outcome for rules in (plain, read))
        assert with_it.cost.mean() == pytest.approx(without.cost.mean(), rel=0.08)
        if told:
            assert with_it.utility.mean() > without.utility.mean() + 0.03
        else:
            np.testing.assert_array_equal(with_it.utility, without.utility)
    if not told:
        return
    rule = read.at(float(read.spend[len(read.spend) // 2]))
    paths = served_paths(rule, new, walks)
    np.testing.assert_allclose(
        np.mean([path.right for path in paths]), replay_escalation(rule, walks).outcome.utility.mean(), atol=0.02
    )
    question = rule.start(ticket=0.0)
    with pytest.raises(ValueError, match="look at a number beside each answer of source 0; got nan"):
        question.after((0,), ["7"])
    high, low = (question.after((0,), ["7"], [number]).posterior for number in (5.0, -5.0))
    assert high > low + 0.2
    with pytest.raises(ValueError, match="walks were made without"):
        replay_escalation(rule, make_walks(new, SOURCES, LIMITS, resource="usd"))


def test_posteriors_with_evidence_are_those_of_the_model():
    """Every outcome of a draw has its bin, and they sum to what there was before."""
    patterns, model = make_patterns(LIMITS, 3, bins=(2, 1, 3)), some_classes()
    bins = np.random.default_rng(0).dirichlet(np.ones(6), (2, 2))  # of the second source, all samples are alike
    part = [bins[..., :2], np.ones((2, 2, 1)), bins[..., 3:]]
    part = np.concatenate([x / x.sum(axis=-1, keepdims=True) for x in part], axis=-1)
    model = model._replace(bin=np.moveaxis(part, -1, 1).astype(np.float32))
    table = tables(model, patterns, np.zeros((1, 3), np.float32))
    may = (patterns.next >= 0).any(axis=-1)
    after = np.where(patterns.next >= 0, table.reach[:, np.maximum(patterns.next, 0)], 0).sum(axis=-1)
    np.testing.assert_allclose(after[:, may], np.broadcast_to(table.reach[:, :, None], after.shape)[:, may], rtol=1e-4)
    coarse = tables(some_classes(), make_patterns(LIMITS, 3), np.zeros((1, 3), np.float32))
    one = patterns.next[0, 0]  # the first sample of the first source opens a block, in either bin
    seen = [one[0 * 6 + 3], one[1 * 6 + 3]]
    mean = sum(table.reach[0, s] * table.right[0, s, 0] for s in seen) / table.reach[0, seen].sum()
    assert mean == pytest.approx(float(coarse.right[0, make_patterns(LIMITS, 3).next[0, 0, 3], 0]), abs=1e-5)


def test_text_that_tells_questions_apart_helps():
    log, new = made_answers(1500, seed=1), made_answers(1500, seed=2)

    def promise(of):
        hard = np.array(["hard" in text for text in of.question])[:, None]
        return Promise(np.clip(np.array([0.6, 0.7, 0.9]) + np.where(hard, -0.35, 0.1), 0.02, 0.98))

    walks = make_walks(new, SOURCES, LIMITS, resource="usd")
    told = solve_escalation(log, SOURCES, resource="usd", promise=promise(log), beliefs=("classes",)).at(4.0)
    blind = solve_escalation(log, SOURCES, resource="usd", beliefs=("classes",)).at(4.0)
    with_text = replay_escalation(told, walks, promise(new)).outcome
    without = replay_escalation(blind, walks).outcome
    assert with_text.utility.mean() > without.utility.mean() + 0.005
    assert with_text.cost.mean() == pytest.approx(without.cost.mean(), rel=0.08)


def test_chances_that_are_equal_up_to_rounding_are_equal():
    """Or an answer, and a report's last digit, would depend on the processor."""
    close = np.float32([[0.4, 0.4 + 4e-7, 0.1], [0.3, 0.5, 0.5 - 4e-7], [0.1, 0.2, 0.3]])
    assert likeliest(close).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("unit", "best"), [(np.arange(60), "classes by text"), (np.arange(60) // 10, "classes")])
def test_families_are_compared_on_units_that_their_beliefs_have_not_seen_and_each_counts_as_one(
    unit, best, monkeypatch
):
    """The richer family earns more on ten questions and less on ten others: much for sixty questions, chance for six groups."""
    more = np.repeat([1.0, -0.5, 0, 0, 0, 0], 10)

    class Rows:
        multipliers = np.ones(2)

        def __init__(self, rows):
            self.rows = rows

        def seen_by(self, family):
            return self

        def select(self, at):
            return Rows(self.rows[at])

    def earned(known, belief, held, multipliers):
        assert not set(unit[known.rows]) & set(unit[held.rows])
        return None, np.array([1.0, 2.0]), np.tile(belief.gated * more[held.rows], (2, 1))

    monkeypatch.setattr(
        solver, "fit_belief", lambda task, family, classes: SimpleNamespace(classes=0, gated=family.gated)
    )
    monkeypatch.setattr(solver, "earned", earned)
    assert solver._best_family(Rows(np.arange(60)), ["classes", "classes by text"], unit, (1.5,), 0) == best


@pytest.mark.long
def test_features_of_the_text_tell_classes_apart():
    """Whether wrong answers come together is told by the text alone; every accuracy is the same."""
    rng = np.random.default_rng(0)
    tempting = rng.random(2000) < 0.5
    parts = [made_answers(2000, seed=3, trap=trap) for trap in (0.95, 0.0)]
    answer = np.where(tempting[:, None, None], parts[0].answer, parts[1].answer)
    log = replace(parts[0], answer=answer, correct=answer == 0)
    features = np.c_[tempting, rng.normal(size=(2000, 3))]
    kinds, promised = read_kinds(log, SOURCES, False), np.zeros((2000, 3), np.float32)
    model = fit_classes(kinds, promised, 4, features)
    prior = model.prior(np.float32([[1, 0, 0, 0], [0, 0, 0, 0]]))
    wrong = (prior[:, :, None, None] * model.chances(np.zeros((2, 3), np.float32), prior))[..., 1:].sum(axis=(1, 2))
    trap = wrong[:, :2].sum(axis=1) / wrong.sum(axis=1)
    assert trap[0] > trap[1] + 0.3


def test_a_family_is_chosen_at_the_budgets_that_matter(monkeypatch):
    """One family is ahead at low spends, the other at high ones."""
    curves = {"classes": [0.5, 0.5, 0.9], "independent": [0.5, 0.7, 0.8]}
    monkeypatch.setattr(solver, "fit_belief", lambda task, family, classes=None: SimpleNamespace(classes=family))

    def earned(known, belief, task, multipliers):
        name = "classes" if belief.classes.classes > 1 else "independent"
        utility = np.repeat(np.array(curves[name])[:, None], len(task.rows), axis=1)
        return (
            np.ones(3, bool),
            np.array([1.0, 4.0, 16.0]),
            utility + np.tile([0.01, -0.01], len(task.rows))[: len(task.rows)],
        )

    monkeypatch.setattr(solver, "earned", earned)
    task = SimpleNamespace(select=lambda rows: SimpleNamespace(rows=rows), multipliers=np.ones(3))
    task.seen_by = lambda family: task
    found = [
        solver._best_family(task, tuple(curves), np.arange(40), at, seed=0) for at in ((4.0,), (16.0,), (4.0, 99.0))
    ]
    assert found == ["independent", "classes", "independent"]


def test_a_verifier_ends_a_question_at_its_first_right_sample(log):
    found = solve_escalation(log, ("small", "large"), answer="verified", limits=(3, 3), cap=5, resource="samples")
    rule = found.at(2.0)
    question = rule.start(ticket=0.5)
    question = question.after(rule.decide(question), [None])
    question = question.after(rule.decide(question), ["right"])
    assert rule.decide(question) == () and question.posterior == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"sources": ()}, "one or more different names"),
        ({}, {"sources": ("cheap", "none")}, "unknown source 'none'"),
        ({}, {"answer": "best"}, "'vote' or 'verified'"),
        ({}, {"beliefs": ("tea leaves",)}, "beliefs are some of"),
        ({}, {"limits": (1, 2, 1)}, "question 'q0' has 1 samples of source 'middle'"),
        ({}, {"limits": (1, 1)}, "one for each of 3 sources"),
        ({}, {"limits": (1, 0, 1)}, "whole numbers from 1 on"),
        ({}, {"rounds": 0}, "whole numbers from 1 on"),
        ({}, {"wave": 1.5}, "whole numbers from 1 on"),
        ({}, {"orders": 0}, "whole numbers from 1 on"),
        ({}, {"promise": Promise(np.full((400, 3), np.nan))}, "promised accuracy is from 0 to 1; question 0 has nan"),
        ({}, {"promise": Promise(np.full((400, 3), 7.0))}, "question 0 has 7.0 to 7.0"),
        (
            {},
            {"promise": Promise(np.full((400, 3), 0.5), np.full((400, 3), -1.0))},
            "promised cost is finite and from 0 on",
        ),
        ({"usd": "free"}, {}, "there is nothing to save"),
        ({}, {"promise": Promise(np.zeros((3, 3)))}, "promised accuracy is 400 x 3"),
        ({}, {"evidence": "reward"}, "evidence 'reward': no sample of the log has it"),
        ({}, {"evidence": "mood"}, "evidence is one of prompt_tokens"),
        ({"answer": "mute"}, {}, "source 'middle' has no answers"),
        ({"count": "apart"}, {}, "share no question"),
        ({"usd": "hole"}, {}, "question 'q5' has a sample of 'middle'"),
    ],
)
def test_bad_input_is_named(answers, change, options, message):
    made = {}
    if "answer" in change:
        made["answer"] = answers.answer.copy()
        made["answer"][:, 1] = -1
    if "count" in change:
        made["count"] = answers.count.copy()
        made["count"][::2, 0], made["count"][1::2, 1] = 0, 0
    if "usd" in change:
        made["usd"] = answers.usd.copy()
        made["usd"][5, 1] = np.nan
        if change["usd"] == "free":
            made["usd"][:] = 0
    options = {"sources": SOURCES, "resource": "usd"} | options
    with pytest.raises(ValueError, match=message):
        solve_escalation(replace(answers, **made), options.pop("sources"), **options)


def test_right_samples_without_answers_are_left_out_and_counted(answers, caplog):
    answer = answers.answer.copy()
    answer[::4, 1][answers.correct[::4, 1]] = -1
    right = int(answers.correct[::4, 1].sum())
    with caplog.at_level("WARNING", "alloc_jax"):
        left = answered_questions(replace(answers, answer=answer), SOURCES)
    assert len(left) == 400 - right and f"{right} of 400 questions are left out" in caplog.text
    assert answered_questions(answers, SOURCES) is answers
    some = answers.select(np.flatnonzero(answers.correct[:, 1, 0]))
    some = replace(some, answer=np.where((some.correct & (np.arange(3) == 1)[:, None]), -1, some.answer))
    some.answer[0, 1], some.correct[0, 1] = 3, False  # one wrong answer, so that the source has any
    assert len(answered_questions(some, SOURCES)) == 1
    some.correct[0, 0], some.answer[0, 0] = True, -1
    with pytest.raises(
        ValueError, match="on every question a right sample lacks its answer, as one of source 'cheap' on question"
    ):
        answered_questions(some, SOURCES)


@pytest.mark.long
def test_repeated_samples_share_plans_between_like_questions():
    log = made_log(160, 12)
    found = solve_escalation(log, ("small", "large"), limits=(4, 4), cap=8, resource="tokens", beliefs=("classes",))
    assert len(found.cell) and len(found.patterns) > 600
    walks = make_walks(log, ("small", "large"), (4, 4), resource="tokens", orders=4)
    budget = float(np.median(found.spend))
    assert replay_escalation(found.at(budget), walks).outcome.cost.mean() == pytest.approx(budget, rel=0.1)
    with pytest.raises(ValueError, match="below"):
        found.at(0.1)


def test_few_programs_compile(answers):
    """Folds of other sizes reuse what was compiled."""
    solve_escalation(answers, SOURCES, resource="usd", beliefs=("independent",))
    from alloc_jax.stopping.sources import latent, superprocess

    before = latent._fit._cache_size(), superprocess._solve._cache_size()
    solve_escalation(made_answers(390), SOURCES, resource="usd", beliefs=("independent",))
    after = latent._fit._cache_size(), superprocess._solve._cache_size()
    assert after[1] == before[1] and after[0] <= before[0] + 1


def test_a_family_is_chosen_on_questions_whose_texts_its_belief_has_not_seen(monkeypatch):
    fitted, played = [], []

    def fit(task, family, classes=None):
        fitted.append(task.rows)
        return SimpleNamespace(classes=None)

    def earned(known, belief, task, multipliers):
        played.append(task.rows)
        return np.ones(1, bool), np.ones(1), np.ones((1, len(task.rows)))

    monkeypatch.setattr(solver, "fit_belief", fit)
    monkeypatch.setattr(solver, "earned", earned)
    task = SimpleNamespace(select=lambda rows: SimpleNamespace(rows=set(rows)), multipliers=np.ones(3))
    task.seen_by = lambda family: task
    by_row = np.random.default_rng(7).permutation(40) % solver.FOLDS
    for unit in (np.arange(40), np.arange(40) % 20):
        fitted.clear(), played.clear()
        assert solver._best_family(task, ("classes", "independent"), unit, (), seed=7) in BELIEFS
        assert all(
            not set(unit[list(known)]) & set(unit[list(held)]) for known, held in zip(fitted, played, strict=True)
        )
        if len(set(unit)) == 40:
            assert played[::2] == [set(np.flatnonzero(by_row == k)) for k in range(solver.FOLDS)]
    assert solver._best_family(task, ("classes", "independent"), np.zeros(40, int), (), seed=7) == "independent"
