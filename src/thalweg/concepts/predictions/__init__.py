"""The concept predictions."""
