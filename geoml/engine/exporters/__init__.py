"""What geoml made, written as other platforms take it; their commands are in ``geoml/cli/exports``."""
