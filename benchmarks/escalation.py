"""Escalation at size: seconds and memory of its steps, on made questions of six sources.

    python benchmarks/escalation.py
    python benchmarks/escalation.py --questions=1000000 --sources=4

Every question has a text of its own, and so a plan of its own. Cost rises from source to source; the samples are one of each source. `plan and
play` solves all questions at all multipliers and walks them through their own samples.
"""

import resource
import sys
import time

import numpy as np
from absl import app, flags

from alloc_jax.options import help_where_asked
from alloc_jax.stopping.sources.solver import earned, fit_belief
from alloc_jax.stopping.sources.solver_input import BELIEFS, Promise, make_task
from alloc_jax.types import SampleLog, Source

FLAGS = flags.FLAGS
flags.DEFINE_integer("questions", 100_000, "Questions.")
flags.DEFINE_integer("sources", 6, "Sources.")
flags.DEFINE_integer("depth", 3, "The most samples of a question.")
flags.DEFINE_integer("multipliers", 32, "Multipliers.")
flags.DEFINE_enum("belief", "classes", list(BELIEFS), "Family of beliefs.")


def made_log(questions: int, sources: int) -> tuple[SampleLog, np.ndarray]:
    """A log of one sample a source, and the accuracies f[N, M] that its texts promise."""
    rng = np.random.default_rng(0)
    ease = rng.normal(size=(questions, 1))
    chance = 1 / (1 + np.exp(-(np.linspace(0, 2, sources) + ease)))
    correct = rng.random((questions, sources)) < chance
    answer = np.where(correct, 0, np.where(rng.random(correct.shape) < 0.4, 1, rng.integers(2, 20, correct.shape)))
    usd = np.broadcast_to(4.0 ** np.arange(sources), correct.shape)[:, :, None].astype(np.float32)
    log = SampleLog(
        ids=tuple(map(str, range(questions))),
        question=tuple(map(str, range(questions))),
        gold=("0",) * questions,
        group=(None,) * questions,
        sources=tuple(Source(f"source {m}") for m in range(sources)),
        answers=(tuple(map(str, range(20))),) * questions,
        count=np.ones(correct.shape, np.int32),
        answer=answer.astype(np.int32)[:, :, None],
        correct=correct[:, :, None],
        usd=usd,
    )
    return log, np.clip(chance + rng.normal(scale=0.1, size=chance.shape), 0.02, 0.98)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    log, accuracy = made_log(FLAGS.questions, FLAGS.sources)
    names = [source.name for source in log.sources]
    began = time.perf_counter()

    def tell(step: str) -> None:
        nonlocal began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{step:14s} {time.perf_counter() - began:6.1f} s   peak {peak:.2f} GiB", flush=True)
        began = time.perf_counter()

    task = make_task(log, names, answer="vote", resource="usd", promise=Promise(accuracy), cap=FLAGS.depth)
    tell("walks, states")
    belief = fit_belief(task, BELIEFS[FLAGS.belief])
    tell("belief")
    multipliers = np.geomspace(task.multipliers[0], task.multipliers[-1], FLAGS.multipliers)
    _, spend, utility = earned(task, belief, task, multipliers)
    tell("plan and play")
    own = " of its own" if task.planned else ", shared by like questions"
    print(
        f"{len(log)} questions of {len(names)} sources, {len(task.patterns)} states, each question a plan{own}, {FLAGS.multipliers} multipliers; they spend"
        f" {spend[0]:.3g} to {spend[-1]:.3g} and are right on {100 * utility[0].mean():.1f} to {100 * utility[-1].mean():.1f} %"
    )


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
