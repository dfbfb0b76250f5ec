"""The rules, by the phase in which a failure shows."""
