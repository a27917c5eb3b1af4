"""Networks that translate sentences."""
