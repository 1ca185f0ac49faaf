"""Is the live policy still right, and is a candidate safe to switch on? Both from the decisions that a gateway has recorded.

    alloc traffic runs/ledger.traffic.sqlite --budget=3
    alloc traffic runs/ledger.traffic.sqlite --budget=3 --candidate=runs/new/policy/value
    alloc traffic runs/ledger.traffic.sqlite --policy=runs/served/policy/value --refit=runs/served/policy

The file may be read while the gateway writes to it. The first line answers. --refit writes a recalibrated policy into a new folder beside
the others, `value.v2`, and replaces none.
"""

from absl import flags

from alloc_jax.jobs.console import define_config_flags, read_config, show_progress
from alloc_jax.jobs.traffic import TrafficConfig, review_traffic
from alloc_jax.report.tables import markdown_table
from alloc_jax.report.traffic import (
    drift_table,
    still_right_line,
    switch_line,
    switch_table,
    traffic_line,
    weak_table,
)

_DEFAULT = TrafficConfig()
FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string("decisions", None, "The file that a gateway writes its decisions to.")
    define_config_flags(_DEFAULT, workdir=False)


def main(argv):
    if not FLAGS.decisions:
        raise ValueError("say which file of decisions: alloc traffic FILE")
    show_progress()
    config = read_config(_DEFAULT)
    review = review_traffic(config, FLAGS.decisions)
    if review.switch is not None:
        print(switch_line(review.switch))
    print(still_right_line(review.monitors, config.every))
    print(f"\n{traffic_line(review.recorded)}")
    if review.switch is not None and review.switch.live is not None:
        print(f"\n{markdown_table(*switch_table(review.switch))}")
    if review.monitors:
        print(f"\n{markdown_table(*drift_table(review.monitors))}")
    if review.weak is not None:
        print(f"\n{markdown_table(*weak_table(review.weak))}")
    if review.folder is not None:
        print(f"\nrecalibrated on {config.window} decisions: {review.folder}")
