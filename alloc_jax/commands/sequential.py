"""A multiplier on the next sample against fixed confidence, fixed numbers of samples and one-shot policies, at equal spend.

    alloc sequential --workdir=runs/sequential
    alloc sequential --workdir=runs/first --sources=small/think,large/direct,large/think --resource=compute --budgets=1,1.5,2,3
    alloc sequential --workdir=runs/verified --log=outcomes.npz --answer=verified --budgets=2,3,4

Votes on the built-in log take about four minutes. The workdir then holds report.md (how far the index rule with its text prior is ahead of
every other, and all rules), sequential.png, metrics.jsonl, and policy/ with the rules to serve.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.sequential import FIRST, TEXT, SequentialConfig, compare_sequential
from alloc_jax.report.headline import answer, answer_table
from alloc_jax.report.stopping import ahead_table
from alloc_jax.report.tables import markdown_table, plain_table

_DEFAULT = SequentialConfig()
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT)


def main(argv):
    show_progress()
    config = read_config(_DEFAULT)
    report = compare_sequential(config, FLAGS.workdir, FLAGS.overwrite)
    main = FIRST if len(config.sources) > 1 else TEXT
    print(f"{answer(report, main)}\n\n{plain_table(*answer_table(report, main))}\n")
    print(markdown_table(*ahead_table(report, main)))
    print(f"\n{report.questions} questions; cost in {report.unit}; seed {config.seed}")
    print(f"\nreport: {FLAGS.workdir}/report.md")
