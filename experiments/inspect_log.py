"""What is in a sample log: questions, sources, accuracy, tokens, what is missing, and whether allocation can pay.

python experiments/inspect_log.py
python experiments/inspect_log.py --log=samples.jsonl
"""

from absl import app, flags

from alloc_jax.evaluate.console import plain_errors
from alloc_jax.measure import read_log
from alloc_jax.measure.inspect import describe, format_description

FLAGS = flags.FLAGS
flags.DEFINE_string("log", "builtin", "Sample log (JSON lines), or `builtin`.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    with plain_errors("inspect_log"):
        facts = describe(read_log(FLAGS.log))
    print(format_description(facts))


if __name__ == "__main__":
    app.run(main)
