from alloc_jax.serve.allocator import (
    Allocator as Allocator,
)
from alloc_jax.serve.allocator import (
    Decision as Decision,
)
from alloc_jax.serve.allocator import (
    allocator as allocator,
)
