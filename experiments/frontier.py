"""Any sample log to its frontier: what every budget would buy if the questions were known. No learning.

python experiments/frontier.py --help          # the same as `alloc frontier --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("frontier")
