"""The concept activations."""
