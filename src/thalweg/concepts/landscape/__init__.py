"""The concept landscape."""
