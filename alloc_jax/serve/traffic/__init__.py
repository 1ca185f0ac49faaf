"""What serving does so that it can learn from its own traffic: it explores, records, and takes verdicts."""
