"""What a machine must have before time is spent on it; each check says what it found."""
