"""Any sample log to a table: what is in the log, and what every action earns and costs on it.

python experiments/measure_log.py --help          # the same as `alloc measure --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("measure")
