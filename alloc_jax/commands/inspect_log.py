"""What is in a sample log: questions, sources, samples, accuracy, totals, what is missing, and whether allocation can pay.

alloc inspect samples.jsonl
alloc inspect samples_gsm8k.jsonl --grader=math --skip_bad
alloc inspect builtin
"""

from absl import flags

from alloc_jax.jobs.console import define_log_files, show_progress
from alloc_jax.logs.flags import define_reading_flags, read_flagged
from alloc_jax.logs.read import format_reading
from alloc_jax.measure.description import describe, format_description

FLAGS = flags.FLAGS


def define_flags():
    define_log_files()
    define_reading_flags()


def main(argv):
    show_progress()
    reading = read_flagged(FLAGS.log)
    print(f"{format_reading(reading)}\n{format_description(describe(reading.log))}")
