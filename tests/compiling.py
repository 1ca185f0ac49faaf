"""How the tests compile, which is most of what they do: programs are shared by the processes of a run, and compiled cheaply.

XLA spends three quarters of its time on a program's speed, which tests of a few hundred questions have no use for. Two settings save
it, and change the last digits of a result at most:

- kernels are emitted the old way, not by way of MLIR (everywhere; the same operations, other kernels);
- LLVM does not optimise. It then forms no fused multiply-adds, which sums of two floats must withstand: what checks the solver's
  claims to the last digit is optimised (OPTIMISED in conftest.py).

Where XLA_FLAGS is set, even to nothing, none of this is done: `XLA_FLAGS= python -m pytest` compiles as users do. CI does both for the fast tests.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

from alloc_jax.learn import fitting

OLD_KERNELS = "--xla_cpu_use_fusion_emitters=false"
UNOPTIMISED = "JAX_DISABLE_MOST_OPTIMIZATIONS"
CACHE = "JAX_COMPILATION_CACHE_DIR"
SHORTEST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
MOST_MAPS = 20_000  # memory maps of a process; Linux gives 65,530, and compiling another program then ends in a segmentation fault


def prepare() -> str | None:
    """Sets the environment that workers and commands inherit. Gives the folder that is to be removed after the run.

    `JAX_COMPILATION_CACHE_DIR`, where it is set, is used and kept: the next run then compiles only what has changed.
    """
    made = None
    if not os.environ.get(CACHE):
        made = os.environ[CACHE] = tempfile.mkdtemp(prefix="alloc_jax-compiled-")
    os.environ.setdefault(SHORTEST, "0.1")
    jax.config.update("jax_compilation_cache_dir", os.environ[CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float(os.environ[SHORTEST]))
    if "XLA_FLAGS" not in os.environ and _knows(OLD_KERNELS):
        os.environ |= {"XLA_FLAGS": OLD_KERNELS, UNOPTIMISED: "1"}
        jax.config.update("jax_disable_most_optimizations", True)
    return made


def optimise(wanted: bool) -> None:
    """From here on programs are optimised, or not, also those of commands; nothing changes where all are compiled as users do."""
    unoptimised = str(int(not wanted))
    if os.environ.get(UNOPTIMISED, unoptimised) == unoptimised:
        return
    os.environ[UNOPTIMISED] = unoptimised
    jax.config.update("jax_disable_most_optimizations", not wanted)
    forget()


def forget_if_many() -> None:
    """Lets go of compiled programs once a process holds very many of them: each is some memory maps."""
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        forget()


def forget() -> None:
    """Lets go of all compiled programs."""
    fitting._compiled.cache_clear()
    jax.clear_caches()


def _knows(flag: str) -> bool:
    """Whether this jaxlib has a flag: it ends a process over one that it does not know, so another one tries."""
    code = "import jax; jax.devices('cpu')"
    environment = os.environ | {"XLA_FLAGS": flag, "JAX_PLATFORMS": "cpu"}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0
