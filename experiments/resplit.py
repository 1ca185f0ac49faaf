"""The main job's comparison over many random splits of the questions: how well budgets are kept and gaps are closed.

python experiments/resplit.py --help          # the same as `alloc resplit --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("resplit")
