"""Pictures: Matplotlib alone is known here. Needs the extra `plot`."""
