from alloc_jax.reasoner.log import builtin_difficulty as builtin_difficulty, builtin_log as builtin_log
