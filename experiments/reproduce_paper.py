"""The protocol of arXiv 2604.14853 on any log, beside its published rows and beside an honest reading of the same log.

python experiments/reproduce_paper.py --help          # the same as `alloc reproduce-paper --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("reproduce-paper")
