"""Every policy and every rule to beat at equal spend: who wins where, by how much, and what each part contributes.

    alloc compare --workdir=runs/compare
    alloc compare --workdir=runs/mine --logs=a.jsonl,b.jsonl --resource=tokens --budgets=500,1000
    alloc compare --workdir=runs/parts --ablations=features,size,heads,loss,temperature --transfer --seeds=1
    alloc compare --workdir=runs/tasks --logs=outcomes.npz --missing=drop --by_group

All questions are scored, by rules that learned from others. The workdir then holds report.md (wins, ties and losses; for each
log the table, paired differences, regret), a picture of the frontiers with bands, and metrics.jsonl.
"""

from absl import flags

from alloc_jax.jobs.compare import CompareConfig, compare_policies
from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.report.comparison import difference_table, verdict_table
from alloc_jax.report.headline import answer, best_policy
from alloc_jax.report.tables import markdown_table

_DEFAULT = CompareConfig()
FLAGS = flags.FLAGS


def define_flags():
    define_config_flags(_DEFAULT)


def main(argv):
    show_progress()
    config = read_config(_DEFAULT)
    found = compare_policies(config, FLAGS.workdir, FLAGS.overwrite)
    for comparison in found:
        best = best_policy(comparison.report, comparison.candidates)
        print(f"{comparison.case.name}: {answer(comparison.report, best)}\n")
    print(markdown_table(*verdict_table(found)))
    for comparison in found:
        print(f"\n{comparison.case.name}: {comparison.report.questions} questions; cost in {comparison.report.unit}\n")
        print(markdown_table(*difference_table(comparison)))
    print(f"\nreport: {FLAGS.workdir}/report.md")
