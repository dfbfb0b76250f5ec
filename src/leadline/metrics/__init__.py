"""Measures derived from records, and what the server counts itself."""
