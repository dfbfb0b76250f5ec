"""Why it failed: rules over evidence, each with its cause, quoted lines and remedy."""
