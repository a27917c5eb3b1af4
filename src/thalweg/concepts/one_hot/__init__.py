"""The concept one_hot."""
