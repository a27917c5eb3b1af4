"""The concept parameters."""
