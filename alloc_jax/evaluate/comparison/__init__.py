"""Comparison of policies by cross-fitting: cases to compare on, contenders, and plans for every question."""
