"""The main job: from logged samples to a policy that keeps its budget.

python experiments/solve_then_learn.py --help          # the same as `alloc report --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("report")
