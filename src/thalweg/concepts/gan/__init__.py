"""The concept gan."""
