"""Metrics: pure functions of arrays and small accumulators, one idea per file."""
