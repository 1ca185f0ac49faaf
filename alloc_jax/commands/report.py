"""The main job: from logged samples to a policy that keeps its budget.

    alloc report --workdir=runs/main
    alloc report samples.jsonl --workdir=runs/mine --resource=samples --budgets=1.5,2,3
    alloc report samples_gsm8k.jsonl --workdir=runs/mine --grader=number
    alloc report results/model_a results/model_b --workdir=runs/both

Without --log it runs on the samples of the built-in reasoner, in under a minute on 2 cores. The workdir then holds
report.md and report.html, frontier.png, who_gets_compute.png, multiplier.png, calibration.png, regret.png, policy/,
predictions.jsonl, metrics.jsonl, config.json and stamp.json.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.solve_then_learn import JobConfig, solve_then_learn
from alloc_jax.logs.flags import changed_options, define_reading_flags
from alloc_jax.report.headline import answer, answer_table, answer_width, best_policy
from alloc_jax.report.tables import plain_table

_DEFAULT = JobConfig()
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT)
    define_reading_flags()


def main(argv):
    show_progress()
    config = read_config(_DEFAULT)
    report = solve_then_learn(config, FLAGS.workdir, FLAGS.overwrite, changed_options())
    best = best_policy(report, config.candidates(report))
    print(f"{answer(report, best)}\n\n{plain_table(*answer_table(report, best))}")
    if wide := answer_width(report, best):
        print(wide)
    print(f"{report.questions} held-out questions, seed {config.seed}; report: {FLAGS.workdir}/report.html")
