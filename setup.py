"""Metadata, dependencies and extras of alloc_jax: the only place that states them."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="alloc_jax",
    version="0.1.0",
    description="Decides who gets the compute: budgeted test-time compute allocation for reasoning LLMs, in JAX",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["alloc_jax", "alloc_jax.*"]),
    package_data={"alloc_jax.reasoner": ["data/*.npz"]},
    install_requires=[
        "jax>=0.7.2",
        "jaxlib>=0.7.2",
        "optax>=0.2.6",
        "flax>=0.11.2",
        "chex>=0.1.90",
        "numpy>=2.0",
        "absl-py>=1.4",
    ],
    extras_require={
        "plot": ["matplotlib>=3.8"],
        "embeddings": ["sentence-transformers>=3"],
        "test": [
            "alloc_jax[plot]",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "highspy>=1.7",
            "ruff>=0.11",
        ],
    },
)
