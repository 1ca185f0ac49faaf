"""Any sample log to a table: what is in the log, and what every action earns and costs on it.

    alloc measure
    alloc measure --log=samples.jsonl --resource=samples,tokens --table=table.npz
    alloc measure --log=samples_gsm8k.jsonl --grader=math --skip_bad --actions='vote(model,1),vote(model,8)'
    alloc measure --log=samples.jsonl --resource=usd --prices=prices.json --missing=drop --shrink=empirical_bayes

The table is saved with the hashes of the files that it came from and the options it was made with.
"""

from absl import flags

from alloc_jax import PriceBook, parse_actions
from alloc_jax.jobs.config import LogConfig
from alloc_jax.jobs.console import define_log_files, show_progress
from alloc_jax.logs.flags import define_reading_flags, input_files, read_flagged, reading_options
from alloc_jax.logs.read import format_reading
from alloc_jax.measure import RESOURCES, describe, fitting_menu, format_description, format_table, measure, save_table
from alloc_jax.measure.shrink import METHODS
from alloc_jax.options import define_options, option_help

FLAGS = flags.FLAGS


def define_flags():
    define_log_files()
    define_reading_flags()
    define_options(LogConfig, "actions", "prices")
    flags.DEFINE_list("resource", ["samples"], f"What is paid with, one or several: {', '.join(RESOURCES)}.")
    flags.DEFINE_enum("missing", "error", ["error", "drop"], option_help(LogConfig, "missing"))
    flags.DEFINE_enum(
        "shrink", None, list(METHODS), "Shrink utilities, for choosing on few samples; default: plain means."
    )
    flags.DEFINE_string("table", None, "Where to save the table: a name that ends in .npz or .parquet.")


def main(argv):
    show_progress()
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
        named = {"actions": [action.name for action in actions], "resource": resource, "prices": FLAGS.prices or None}
        files = input_files(FLAGS.log) + ([FLAGS.prices] if FLAGS.prices else [])
        save_table(table, FLAGS.table, inputs=files, options=reading_options() | named | options)
        print(f"\ntable: {FLAGS.table}")
