"""Any sample log to a table: what is in the log, and what every action earns and costs on it.

    python experiments/measure_log.py
    python experiments/measure_log.py --log=samples.jsonl --resource=samples,tokens --table=table.npz
    python experiments/measure_log.py --log=samples_gsm8k.jsonl --grader=math --skip_bad --actions='vote(model,1),vote(model,8)'
    python experiments/measure_log.py --log=samples.jsonl --resource=usd --prices=prices.json --missing=drop --shrink=empirical_bayes

The table is saved with the hashes of the files that it came from and the options it was made with.
"""

from absl import app, flags, logging

from alloc_jax import PriceBook, parse_actions
from alloc_jax.jobs.console import plain_errors
from alloc_jax.logs.flags import define_reading_flags, input_files, read_flagged, reading_options
from alloc_jax.logs.read import format_reading
from alloc_jax.measure import RESOURCES, describe, fitting_menu, format_description, format_table, measure, save_table
from alloc_jax.measure.shrink import METHODS

FLAGS = flags.FLAGS
flags.DEFINE_list("log", ["builtin"], "Sample log in any known format, or several files of one log, or `builtin`.")
define_reading_flags()
flags.DEFINE_string("actions", "", "Actions such as 'vote(think,1),vote(think,8)'; default: all sources, all votes.")
flags.DEFINE_list("resource", ["samples"], f"What is paid with, one or several: {', '.join(RESOURCES)}.")
flags.DEFINE_string(
    "prices", None, "Price book (JSON) behind the resource usd; without it, the dollars that the log states."
)
flags.DEFINE_enum(
    "missing", "error", ["error", "drop"], "What to do with questions that lack a price, count or latency."
)
flags.DEFINE_enum(
    "shrink", None, list(METHODS), "Shrink utilities, for choosing on few samples; by default, they are plain means."
)
flags.DEFINE_string("table", None, "Where to save the table: a name that ends in .npz or .parquet.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)  # JAX tells of devices that are not there
    with plain_errors("measure_log"):
        reading = read_flagged(FLAGS.log)
        print(f"{format_reading(reading)}\n{format_description(describe(reading.log))}\n")
        actions = parse_actions(FLAGS.actions) if FLAGS.actions else fitting_menu(reading.log)
        resource = FLAGS.resource[0] if len(FLAGS.resource) == 1 else tuple(FLAGS.resource)
        prices = PriceBook.load(FLAGS.prices) if FLAGS.prices else None
        options = {"missing": FLAGS.missing, "shrink": FLAGS.shrink}
        table = measure(reading.log, actions, resource, prices=prices, **options)
        print(format_table(table))
        if table.dropped:
            print(
                f"\n{len(table.dropped)} questions were left out, {table.dropped[0]!r} first: they lack something of {resource}"
            )
        if FLAGS.table:
            named = {"actions": [action.name for action in actions], "resource": resource, "prices": FLAGS.prices}
            files = input_files(FLAGS.log) + ([FLAGS.prices] if FLAGS.prices else [])
            save_table(table, FLAGS.table, inputs=files, options=reading_options() | named | options)
            print(f"\ntable: {FLAGS.table}")


if __name__ == "__main__":
    app.run(main)
