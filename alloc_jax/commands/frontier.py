"""Any sample log to its frontier: what every budget would buy if the questions were known. No learning.

    alloc frontier --workdir=runs/frontier
    alloc frontier --workdir=runs/mine --log=samples.jsonl --resource=tokens --budgets=500,1000

Writes frontier.csv (every breakpoint: spend, utility, multiplier), frontier.png, price.png, report.md and report.html.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.solve_then_learn import FrontierConfig, solve_only
from alloc_jax.report.text import main_table, markdown_table

_DEFAULT = FrontierConfig()
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT)


def main(argv):
    show_progress()
    config = read_config(_DEFAULT)
    report = solve_only(config, FLAGS.workdir, FLAGS.overwrite)
    print(f"{report.questions} questions; cost in {report.unit}; seed {config.seed}\n")
    print(markdown_table(*main_table(report)))
    print(f"\nreport: {FLAGS.workdir}/report.html")
