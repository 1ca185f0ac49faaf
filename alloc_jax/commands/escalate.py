"""One multiplier on the next sample of any source, against cascades, routers and fixed rules, at equal spend.

    alloc escalate --workdir=runs/escalate --log=builtin --resource=compute --budgets=0.5,1,2
    alloc escalate --workdir=runs/mine --log=samples.jsonl --resource=usd
    alloc escalate --workdir=runs/two --log=samples.jsonl --sources=small,large --limits=4,2 --cap=6 --rounds=2 --wave=4

The workdir then holds report.md (how far escalation is ahead of every other rule, what it saves, ten questions with their path),
escalate.png, paths.png, metrics.jsonl, and policy/ with the rules to serve.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.escalate import ESCALATE, EscalateConfig, compare_escalation
from alloc_jax.report.headline import answer, answer_table
from alloc_jax.report.tables import plain_table

_DEFAULT = EscalateConfig()
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT)


def main(argv):
    show_progress()
    config = read_config(_DEFAULT)
    report = compare_escalation(config, FLAGS.workdir, FLAGS.overwrite)
    print(f"{answer(report, ESCALATE)}\n\n{plain_table(*answer_table(report, ESCALATE))}")
    print(f"{report.questions} questions, cost in {report.unit}, seed {config.seed}; report: {FLAGS.workdir}/report.md")
