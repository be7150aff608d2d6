"""Everything outside: stores, STAC, COG, GeoParquet. The only layer that translates foreign exceptions."""
