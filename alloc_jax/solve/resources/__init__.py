"""Several resources: Newton finds the multipliers, a small linear programme makes certified plans of them."""
