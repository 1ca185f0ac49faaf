"""Writes the built-in reasoner as a Hugging Face folder, for a real server to load.

    python experiments/export_reasoner.py --size=large --folder=runs/reasoner-large
    transformers serve runs/reasoner-large --host 127.0.0.1 --port 8000 --device cpu

The server then answers at http://127.0.0.1:8000/v1 to the model named as the folder was given; the sources of a
collection say `"prompt": "T{question}="` to have it think, or "D{question}=" for the answer alone.
"""

import sys

from absl import app, flags

from alloc_jax.jobs.console import plain_errors, show_progress
from alloc_jax.options import help_where_asked
from alloc_jax.reasoner.export import export_reasoner

FLAGS = flags.FLAGS
flags.DEFINE_string("size", "large", "`small`, `large`, or a file of weights.")
flags.DEFINE_string("folder", None, "New or empty folder.", required=True)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    show_progress()
    with plain_errors("export_reasoner"):
        parameters = export_reasoner(FLAGS.size, FLAGS.folder)
    print(f"{FLAGS.folder}: {parameters} parameters")


if __name__ == "__main__":
    help_where_asked(sys.modules[__name__])
    app.run(main)
