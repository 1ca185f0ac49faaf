"""What is drawn for a question, one round after the other: by a vote, a stopping rule, or rules that ask several sources."""
