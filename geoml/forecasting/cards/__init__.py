"""Cards of forecasts."""
