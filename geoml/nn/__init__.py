"""What two or more models or tasks share: encoders, padding, weights, losses, metrics."""
