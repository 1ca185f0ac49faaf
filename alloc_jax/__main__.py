"""`python -m alloc_jax` is `alloc`."""

from alloc_jax.cli import main

if __name__ == "__main__":
    main()
