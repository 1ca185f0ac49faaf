"""Collects samples from any OpenAI-compatible server: questions and sources in, a journal and a sample log out.

python experiments/collect_samples.py --help          # the same as `alloc collect --help`
"""

from alloc_jax.cli import run

if __name__ == "__main__":
    run("collect")
