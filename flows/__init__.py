"""The steps of geoml under Prefect 3: parse, call steps, map over blocks, collect. No arrays, no geometry."""
