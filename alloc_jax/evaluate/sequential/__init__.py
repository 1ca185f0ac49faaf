"""Rules that look at answers before they pay for more, replayed on logged samples, and rules to beat."""
