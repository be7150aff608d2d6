"""Targets, losses and scores of object detectors."""
