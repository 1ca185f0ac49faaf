from alloc_jax.evaluate.baselines import (
    NearestNeighbours as NearestNeighbours,
    prompt_length as prompt_length,
)
from alloc_jax.evaluate.evaluation import (
    Report as Report,
    evaluate as evaluate,
)
