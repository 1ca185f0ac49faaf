"""The main job's comparison over many random splits of the questions: how well budgets are kept and gaps are closed.

    python experiments/resplit.py --splits=20

Prints, for every rule and budget, the mean over splits of the realised spend and of the share of the gap between
uniform mix and oracle that is closed, with their standard deviations over splits, and in how many splits the rule's
paired interval over the uniform mix excludes 0.
"""

from absl import app, flags

from alloc_jax.evaluate.console import plain_errors
from alloc_jax.evaluate.job import JobConfig, resplit
from alloc_jax.evaluate.text import markdown_table
from alloc_jax.measure import RESOURCES
from alloc_jax.measure.shrink import METHODS

_DEFAULT = JobConfig()
FLAGS = flags.FLAGS
flags.DEFINE_string("log", _DEFAULT.log, "Sample log (JSON lines), or `builtin`.")
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
flags.DEFINE_list("budgets", [f"{budget:g}" for budget in _DEFAULT.budgets], "Mean cost a question.")
flags.DEFINE_list("policy", ["value"], "Policies to train: value, imitation.")
flags.DEFINE_integer("splits", 20, "How many splits.", lower_bound=2)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    with plain_errors("resplit"):
        config = JobConfig(
            log=FLAGS.log,
            resource=FLAGS.resource,
            prices=FLAGS.prices,
            missing=FLAGS.missing,
            shrink=FLAGS.shrink,
            budgets=tuple(map(float, FLAGS.budgets)),
            policies=tuple(FLAGS.policy),
        )
        print(markdown_table(*resplit(config, FLAGS.splits)))


if __name__ == "__main__":
    app.run(main)
