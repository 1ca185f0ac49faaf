"""The protocol of arXiv 2604.14853 on any log, beside its published rows and beside an honest reading of the same log.

    alloc reproduce-paper --workdir=runs/paper
    alloc reproduce-paper --workdir=runs/mine --log=samples.jsonl --source=gpt --questions=150 --samples=32

200 questions, 48 samples, votes of 1, 2, 4, 8, 16, budgets 1.5, 2, 3, 80/20, three splits: the paper's numbers are the defaults. The
workdir then holds report.md, frontier.png and metrics.jsonl. Needs the extra `trees`.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.paper import PaperConfig, gains_table, published_table, reproduce
from alloc_jax.report.tables import main_table, markdown_table

_DEFAULT = PaperConfig()
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT)


def main(argv):
    show_progress()
    config = read_config(_DEFAULT)
    found = reproduce(config, FLAGS.workdir, FLAGS.overwrite)
    for table in (published_table(found, config.budgets), gains_table(found, config.budgets)):
        print(markdown_table(*table), end="\n\n")
    print(markdown_table(*main_table(found.honest.report)))
    print(f"\nreport: {FLAGS.workdir}/report.md")
