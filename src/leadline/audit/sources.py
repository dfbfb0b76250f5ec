"""Where what several objections rest on can be looked up."""

LOG_SOURCE = "vLLM v1/metrics/stats.py: the whole prompt is booked when its first token appears"
