"""Facts about models, texts and machines, as data with their sources."""
