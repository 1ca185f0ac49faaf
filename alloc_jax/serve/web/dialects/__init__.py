"""Protocols that clients speak, made of chat completions: what they ask and what they read."""
