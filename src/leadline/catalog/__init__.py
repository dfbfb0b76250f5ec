"""Facts about models, hardware and engine releases: data with a source, read here."""
