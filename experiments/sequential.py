"""A multiplier on the next sample against fixed confidence, fixed numbers of samples and one-shot policies, at equal spend.

python experiments/sequential.py --help          # the same as `alloc sequential --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("sequential")
