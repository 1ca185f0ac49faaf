from alloc_jax.serve.allocator import (
    Allocator as Allocator,
    Decision as Decision,
    allocator as allocator,
    worst_cost as worst_cost,
)
from alloc_jax.serve.epochs import (
    MeanEpochs as MeanEpochs,
    VoteEpochs as VoteEpochs,
    expected_variance as expected_variance,
)
