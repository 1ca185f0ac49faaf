"""Streaming: one budget for a table larger than memory, block after block, by one process or many."""
