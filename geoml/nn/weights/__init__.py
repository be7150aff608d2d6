"""Weights apart from their networks: what of them another network takes over, and in how many bytes they are kept."""
