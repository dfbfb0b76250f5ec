"""Requests sent and streams received, with the clock as close to the socket as Python allows."""
