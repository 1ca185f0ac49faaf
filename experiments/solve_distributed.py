"""One budget for a stored table of any length: larger than memory, and shared by any number of processes.

python experiments/solve_distributed.py --help          # the same as `alloc solve-distributed --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("solve-distributed")
