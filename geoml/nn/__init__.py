"""Shared by two or more models or tasks: encoders, padding, weights, losses, metrics."""
