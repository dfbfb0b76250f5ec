"""Exact prompts from real text."""
