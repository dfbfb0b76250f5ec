"""Where a launch is started: one contract for every target."""
