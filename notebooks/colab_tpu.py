# %% [markdown]
# # Millions of questions on whatever device is there
#
# Runtime > Change runtime type > v5e-1 TPU. JAX is preinstalled there and stays as it is: upgrading jax without libtpu loses the TPU.
# The same cells run on a GPU or CPU; where there is more than one device, the questions are shared out over them, and so are the members of
# a policy's ensemble.

# %%
# @title Install { display-mode: "form" }
# The JAX that is there already, as on Colab, stays.
import importlib.util

ADDRESS = ""  # @param {type:"string", placeholder:"git address of alloc_jax, or the path of an uploaded wheel"}
if importlib.util.find_spec("alloc_jax") is None:
    if not ADDRESS:
        raise SystemExit("fill in ADDRESS: where alloc_jax is")
    wanted = f"{ADDRESS}[plot]" if ADDRESS.endswith(".whl") else f"alloc_jax[plot] @ git+{ADDRESS}"
    # %pip install -q "{wanted}"

# %%
import os
import time

import jax
import jax.numpy as jnp

import alloc_jax as aj
from alloc_jax.solve import prepare

print(jax.__version__, jax.devices())
if jax.default_backend() != "tpu":
    print("No TPU: running on", jax.default_backend())
questions = 2**14 if "ALLOC_JAX_SMALL" in os.environ else 2**22

# %% [markdown]
# A table made on the device: 8 actions with doubling costs, accuracies that rise at different speeds.


# %%
@jax.jit
def draw(key):
    ability, speed, unit = jax.random.uniform(key, (3, questions, 1))
    samples = 2.0 ** jnp.arange(8)
    utility = 1 - (1 - ability**2) ** (samples ** (0.2 + 0.6 * speed))
    return aj.AllocationProblem(utility, samples * (0.5 + unit))


problem = jax.block_until_ready(draw(jax.random.key(0)))
print(problem.utility.shape, problem.utility.devices())

# %% [markdown]
# `prepare` lays the table out once, over all devices if there are several; each budget then takes a handful of passes. The device has no float64:
# the totals that decide what is within the budget are kept in two floats.

# %%
mesh = None
if jax.device_count() > 1 and questions % jax.device_count() == 0:
    mesh = jax.make_mesh((jax.device_count(),), ("questions",), axis_types=(jax.sharding.AxisType.Auto,))
prepared = prepare(problem, mesh=mesh)
for budget in (2.0, 4.0, 8.0, 16.0):
    jax.block_until_ready(aj.solve(prepared, budget))  # compiles once
    start = time.perf_counter()
    found = jax.block_until_ready(aj.solve(prepared, budget))
    seconds = time.perf_counter() - start
    print(
        f"budget {budget:4}: multiplier {float(found.multiplier):.5f}, spend {float(found.spend):.6f}, "
        f"utility {float(found.utility):.6f}, gap {float(found.gap):.1e}, {1e3 * seconds:.1f} ms"
    )

# %% [markdown]
# All budgets on a grid of multipliers, and the best utility as a differentiable function of the budget (its slope is the multiplier).

# %%
curve = aj.frontier(prepared, points=32)
for spend, utility, multiplier in list(zip(curve.spend, curve.utility, curve.multiplier, strict=True))[::6]:
    print(f"spend {float(spend):7.3f}  utility {float(utility):.5f}  multiplier {float(multiplier):.6f}")

# %%
value, slope = jax.value_and_grad(lambda budget: aj.dual_value(problem, budget))(16.0)
print(f"best utility at 16: {float(value):.6f}; one more unit of budget buys {float(slope):.6f}")

# %% [markdown]
# A policy for questions that nobody has sampled yet, from the built-in log. The twenty members of its ensemble are trained as one program, each
# device a few of them; paths of samples drawn one at a time (`aj.solve_sequential`) take the same `mesh=`.

# %%
log = aj.read_log("builtin")
seen, epochs = (400, 3) if "ALLOC_JAX_SMALL" in os.environ else (2400, 30)
table = aj.measure(log.select(range(seen)), aj.menu(log, votes=(1, 4, 8, 16)), "compute")
start = time.perf_counter()
policy = aj.train(table, aj.PolicyConfig(epochs=epochs), mesh=mesh)
print(f"{time.perf_counter() - start:.1f} s on {jax.device_count() if mesh else 1} devices, compiling included")
allocator = aj.allocator(policy, budget=1.0)
for text in log.question[2400:2405]:
    print(f"{text:24} {allocator.choose(text).action}")
