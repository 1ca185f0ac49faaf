"""Any sample log to its frontier: what every budget would buy if the questions were known. No learning.

    python experiments/frontier.py --workdir=runs/frontier
    python experiments/frontier.py --workdir=runs/mine --log=samples.jsonl --resource=tokens --budgets=500,1000

Writes frontier.csv (every breakpoint: spend, utility, multiplier), frontier.png, price.png, report.md and report.html.
"""

from absl import app, flags

from alloc_jax.evaluate.console import plain_errors
from alloc_jax.evaluate.job import JobConfig, solve_only
from alloc_jax.evaluate.text import main_table, markdown_table
from alloc_jax.measure import RESOURCES
from alloc_jax.measure.shrink import METHODS

_DEFAULT = JobConfig()
FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder for the report; must be new or empty.", required=True)
flags.DEFINE_bool("overwrite", False, "Replace an earlier run in the workdir.")
flags.DEFINE_string("log", _DEFAULT.log, "Sample log (JSON lines), or `builtin`.")
flags.DEFINE_string(
    "actions", "", "Actions such as 'vote(large/think,1),vote(large/think,8)'; default: all sources, all votes."
)
flags.DEFINE_string("resource", _DEFAULT.resource, f"What is paid with: {', '.join(RESOURCES)}.")
flags.DEFINE_string(
    "prices", "", "Price book (JSON) behind the resource usd; without it, the dollars that the log states."
)
flags.DEFINE_enum("shrink", "", ["", *METHODS], "How utilities that are chosen on are shrunken; scores never are.")
flags.DEFINE_enum(
    "missing",
    _DEFAULT.missing,
    ["error", "drop"],
    "Refuse, or leave out, questions that lack a price, count or latency.",
)
flags.DEFINE_list(
    "budgets", [f"{budget:g}" for budget in _DEFAULT.budgets], "Mean cost a question, in the resource's unit."
)
flags.DEFINE_integer("seed", _DEFAULT.seed, "Seed of the split of the samples and of the bootstrap.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    with plain_errors("frontier"):
        config = JobConfig(
            log=FLAGS.log,
            actions=FLAGS.actions,
            resource=FLAGS.resource,
            prices=FLAGS.prices,
            missing=FLAGS.missing,
            shrink=FLAGS.shrink,
            budgets=tuple(map(float, FLAGS.budgets)),
            policies=(),
            seed=FLAGS.seed,
        )
        report = solve_only(config, FLAGS.workdir, FLAGS.overwrite)
    print(f"{report.questions} questions; cost in {report.unit}; seed {config.seed}\n")
    print(markdown_table(*main_table(report)))
    print(f"\nreport: {FLAGS.workdir}/report.html")


if __name__ == "__main__":
    app.run(main)
