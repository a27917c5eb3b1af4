"""Networks that read a sequence and answer at every step."""
