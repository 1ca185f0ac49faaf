"""Verdicts: what a verifier or a reward model says of samples, what that costs, and when it suffices."""
