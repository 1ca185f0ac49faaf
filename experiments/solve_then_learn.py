"""The main job: from logged samples to a policy that keeps its budget.

    python experiments/solve_then_learn.py --workdir=runs/main
    python experiments/solve_then_learn.py --workdir=runs/mine --log=samples.jsonl --resource=samples --budgets=1.5,2,3

Without --log it runs on the samples of the built-in reasoner, in under a minute on 2 cores. The workdir then holds
report.md and report.html, frontier.png, who_gets_compute.png, price.png, policy/, predictions.jsonl, metrics.jsonl,
config.json and stamp.json. On the built-in log and budgets expect the value policy to close about half of the gap between
the best uniform mix and the oracle, which is what knowing the generator's own variables would close.
"""

from absl import app, flags, logging

from alloc_jax.evaluate.console import plain_errors
from alloc_jax.evaluate.job import JobConfig, solve_then_learn
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
flags.DEFINE_list("policy", list(_DEFAULT.policies), "Policies to train: value, imitation.")
flags.DEFINE_float("train_share", _DEFAULT.train_share, "Share of the questions to learn from; the rest is held out.")
flags.DEFINE_integer("seed", _DEFAULT.seed, "Seed of the splits, the training and the bootstrap.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    logging.use_absl_handler()
    with plain_errors("solve_then_learn"):
        config = JobConfig(
            log=FLAGS.log,
            actions=FLAGS.actions,
            resource=FLAGS.resource,
            prices=FLAGS.prices,
            missing=FLAGS.missing,
            shrink=FLAGS.shrink,
            budgets=tuple(map(float, FLAGS.budgets)),
            policies=tuple(FLAGS.policy),
            train_share=FLAGS.train_share,
            seed=FLAGS.seed,
        )
        report = solve_then_learn(config, FLAGS.workdir, FLAGS.overwrite)
    print(f"{report.questions} held-out questions; cost in {report.unit}; seed {config.seed}\n")
    print(markdown_table(*main_table(report)))
    print(f"\nreport: {FLAGS.workdir}/report.html")


if __name__ == "__main__":
    logging.set_verbosity(logging.INFO)
    app.run(main)
