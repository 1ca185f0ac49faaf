"""Any sample log to its frontier: what every budget would buy if the questions were known. No learning.

    alloc frontier --workdir=runs/frontier
    alloc frontier --workdir=runs/mine --log=samples.jsonl --resource=tokens --budgets=500,1000

Writes frontier.csv (every breakpoint: spend, utility, multiplier), frontier.png, price.png, report.md and report.html.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_flags, show_progress
from alloc_jax.jobs.solve_then_learn import JobConfig, solve_only
from alloc_jax.report.text import main_table, markdown_table

_DEFAULT = JobConfig(policies=())
_NAMES = ("log", "actions", "resource", "prices", "missing", "shrink", "budgets", "seed")
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT, *_NAMES)


def main(argv):
    show_progress()
    config = JobConfig(policies=(), **read_flags(_DEFAULT, *_NAMES))
    report = solve_only(config, FLAGS.workdir, FLAGS.overwrite)
    print(f"{report.questions} questions; cost in {report.unit}; seed {config.seed}\n")
    print(markdown_table(*main_table(report)))
    print(f"\nreport: {FLAGS.workdir}/report.html")
