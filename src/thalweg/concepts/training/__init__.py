"""The concept training."""
