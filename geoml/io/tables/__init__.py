"""Tables: GeoParquet, CSV and what changed."""
