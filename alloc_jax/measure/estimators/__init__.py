"""Estimators: what an action earns, averaged over all subsets of the logged samples."""
