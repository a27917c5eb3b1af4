"""The concept descent."""
