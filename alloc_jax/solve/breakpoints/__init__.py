"""The exact frontier: every breakpoint, on the host, in NumPy or compiled by Numba."""
