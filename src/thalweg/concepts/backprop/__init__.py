"""The concept backprop."""
