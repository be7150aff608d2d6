"""What a finished run leaves for other programs beside COGs, GeoParquet and STAC."""
