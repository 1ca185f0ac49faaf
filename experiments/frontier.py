"""Any sample log to its frontier: what every budget would buy if the questions were known. No learning.

    python experiments/frontier.py --workdir=runs/frontier
    python experiments/frontier.py --workdir=runs/mine --log=samples.jsonl --resource=tokens --budgets=500,1000

Writes frontier.csv (every breakpoint: spend, utility, multiplier), frontier.png, price.png, report.md and report.html.
"""

from absl import app, flags

from alloc_jax.jobs.console import define_flags, plain_errors, read_flags, start
from alloc_jax.jobs.solve_then_learn import JobConfig, solve_only
from alloc_jax.report.text import main_table, markdown_table

_DEFAULT = JobConfig(policies=())
_NAMES = ("log", "actions", "resource", "prices", "missing", "shrink", "budgets", "seed")
FLAGS = flags.FLAGS
define_flags(_DEFAULT, *_NAMES)


def main(argv):
    start(argv)
    with plain_errors("frontier"):
        config = JobConfig(policies=(), **read_flags(_DEFAULT, *_NAMES))
        report = solve_only(config, FLAGS.workdir, FLAGS.overwrite)
    print(f"{report.questions} questions; cost in {report.unit}; seed {config.seed}\n")
    print(markdown_table(*main_table(report)))
    print(f"\nreport: {FLAGS.workdir}/report.html")


if __name__ == "__main__":
    app.run(main)
