"""Forecasts again and again: which cycles are due, each as a run of its own, and what came true of them."""
