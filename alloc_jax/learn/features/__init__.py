"""Features of a question: what its text says, embeddings, and what the user knows of it. NumPy alone."""
