"""A run rendered for people and machines, from the journal alone."""
