"""The tasks of geolocation, found by name as those of `geoml.tasks`."""
