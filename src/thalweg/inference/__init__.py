"""What can be asked of a trained model: predict, evaluate, explain, export."""
