"""Learning from traffic: what a candidate would have earned and spent on logged decisions, and whether the live policy is still right."""
