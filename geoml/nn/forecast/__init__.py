"""What models of forecasts share: their channels, quantiles, calibration and scores."""
