"""The concept pooling."""
