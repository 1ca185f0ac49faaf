"""One multiplier on the next sample of any source, against cascades, routers and fixed rules, at equal spend.

python experiments/escalate.py --help          # the same as `alloc escalate --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("escalate")
