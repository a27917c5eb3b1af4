"""The concept features."""
