"""Structural proofs that a server read what it was sent, and recall of what was hidden in it."""
