"""The concept neuron."""
