"""Shared by forecast models: channels, quantiles, calibration and scores."""
