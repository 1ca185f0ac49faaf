from alloc_jax.evaluate.baselines import (
    NearestNeighbours as NearestNeighbours,
)
from alloc_jax.evaluate.baselines import (
    prompt_length as prompt_length,
)
from alloc_jax.evaluate.evaluation import (
    Report as Report,
)
from alloc_jax.evaluate.evaluation import (
    evaluate as evaluate,
)
