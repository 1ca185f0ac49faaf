"""Any sample log to its frontier: what every budget would buy if the questions were known. No learning.

    alloc frontier --workdir=runs/frontier
    alloc frontier --workdir=runs/mine --log=samples.jsonl --resource=tokens --budgets=500,1000

Writes frontier.csv (every breakpoint: spend, utility, multiplier), frontier.png, multiplier.png, report.md and report.html.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.solve_then_learn import FrontierConfig, solve_only
from alloc_jax.report.headline import answer, answer_table, best_policy
from alloc_jax.report.tables import plain_table

_DEFAULT = FrontierConfig()
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT)


def main(argv):
    show_progress()
    config = read_config(_DEFAULT)
    report = solve_only(config, FLAGS.workdir, FLAGS.overwrite)
    best = best_policy(report)
    print(f"{answer(report, best)}\n\n{plain_table(*answer_table(report, best))}")
    print(f"{report.questions} questions, seed {config.seed}; report: {FLAGS.workdir}/report.html")
