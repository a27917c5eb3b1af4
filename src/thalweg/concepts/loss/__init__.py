"""The concept loss."""
