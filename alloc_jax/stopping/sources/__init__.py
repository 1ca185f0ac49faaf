"""Several sources: rules that stop, draw again or escalate, with one price on the next sample of any source."""
