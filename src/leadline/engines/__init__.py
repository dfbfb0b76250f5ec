"""Each engine as a table of facts: flags, routes, metric names, request fields."""
