"""The concept convolution."""
