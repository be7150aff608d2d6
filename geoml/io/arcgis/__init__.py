"""What the REST API of ArcGIS gives: services, their layers and their pictures."""
