from alloc_jax.serve.allocator import (
    Allocator as Allocator,
    Decision as Decision,
    allocator as allocator,
    worst_cost as worst_cost,
)
