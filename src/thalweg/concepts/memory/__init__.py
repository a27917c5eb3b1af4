"""The concept memory."""
