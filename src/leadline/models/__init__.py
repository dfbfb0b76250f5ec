"""Small model folders for real engines: random ones of a given shape, and a real one from GGUF."""
