"""Commands: flags in, one call of the library, a few lines printed. `alloc_jax.cli` lists them."""
