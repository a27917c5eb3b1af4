"""Training objectives: losses, and the phases of one training step."""
