"""The main job's comparison over many random splits of the questions: how well budgets are kept and gaps are closed.

    alloc resplit --splits=20

Prints, for every rule and budget, the mean over splits of the realised spend and of the share of the gap between
uniform mix and oracle that is closed, with their standard deviations over splits, and in how many splits the rule's
paired interval over the uniform mix excludes 0.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.solve_then_learn import JobConfig, resplit
from alloc_jax.report.tables import markdown_table

_DEFAULT = JobConfig(policies=("value",))
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT, workdir=False)
    flags.DEFINE_integer("splits", 20, "How many splits, with the seed and those behind it.", lower_bound=2)


def main(argv):
    show_progress()
    print(markdown_table(*resplit(read_config(_DEFAULT), FLAGS.splits)))
