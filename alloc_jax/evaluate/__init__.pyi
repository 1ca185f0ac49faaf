from alloc_jax.evaluate.baselines import (
    NearestNeighbours as NearestNeighbours,
    prompt_length as prompt_length,
)
from alloc_jax.evaluate.evaluation import evaluate as evaluate
from alloc_jax.evaluate.scoring import Report as Report
