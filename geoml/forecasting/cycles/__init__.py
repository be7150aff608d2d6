"""Repeated forecasts: which cycles are due, each as a separate run, and their verification."""
