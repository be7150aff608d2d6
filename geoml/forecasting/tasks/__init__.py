"""The task of forecasts, found by name as those of `geoml.tasks`."""
