"""What will fit, how long it will take, and which setting binds."""
