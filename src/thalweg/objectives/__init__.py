"""What is minimised: a loss, the phases of a step, and the objectives that tasks choose from."""
