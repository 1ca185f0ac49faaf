"""Any sample log to a table: what is in the log, and what every action earns and costs on it.

    python experiments/measure_log.py
    python experiments/measure_log.py --log=samples.jsonl --resource=samples,tokens --table=table.npz
    python experiments/measure_log.py --log=samples_gsm8k.jsonl --grader=math --skip_bad --actions='vote(model,1),vote(model,8)'

The table is saved with the hashes of the files that it came from and the options it was made with.
"""

from absl import app, flags

from alloc_jax import parse_actions
from alloc_jax.evaluate.console import plain_errors
from alloc_jax.measure import (
    describe,
    fitting_menu,
    format_description,
    format_table,
    measure,
    save_table,
)
from alloc_jax.measure.flags import define_reading_flags, input_files, read_flagged, reading_options
from alloc_jax.measure.read import format_reading

FLAGS = flags.FLAGS
flags.DEFINE_list("log", ["builtin"], "Sample log in any known format, or several files of one log, or `builtin`.")
define_reading_flags()
flags.DEFINE_string("actions", "", "Actions such as 'vote(think,1),vote(think,8)'; default: all sources, all votes.")
flags.DEFINE_list("resource", ["samples"], "What is paid with, one or several: samples, tokens, compute.")
flags.DEFINE_string("table", None, "Where to save the table: a name that ends in .npz or .parquet.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    with plain_errors("measure_log"):
        reading = read_flagged(FLAGS.log)
        print(f"{format_reading(reading)}\n{format_description(describe(reading.log))}\n")
        actions = parse_actions(FLAGS.actions) if FLAGS.actions else fitting_menu(reading.log)
        resource = FLAGS.resource[0] if len(FLAGS.resource) == 1 else tuple(FLAGS.resource)
        table = measure(reading.log, actions, resource)
        print(format_table(table))
        if FLAGS.table:
            options = {**reading_options(), "actions": [action.name for action in actions], "resource": resource}
            save_table(table, FLAGS.table, inputs=input_files(FLAGS.log), options=options)
            print(f"\ntable: {FLAGS.table}")


if __name__ == "__main__":
    app.run(main)
