"""Small accumulators of numbers that judge a model, one idea per file."""
