"""Runs a log through the gateway's decision core offline: what a stream would have been given, and whether it keeps its budget.

python experiments/replay_traffic.py --help          # the same as `alloc replay --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("replay")
