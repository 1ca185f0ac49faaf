"""Every policy and every rule to beat at equal spend: who wins where, by how much, and what each part contributes.

python experiments/compare_policies.py --help          # the same as `alloc compare --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("compare")
