"""A row for each picture: schema, parts, page."""
