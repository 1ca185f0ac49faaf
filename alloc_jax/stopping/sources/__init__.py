"""Several sources: rules that stop, draw again or escalate, with one multiplier on the next sample of any source."""
