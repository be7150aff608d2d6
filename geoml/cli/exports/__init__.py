"""Where ``geoml export`` writes to: one file for each platform, with ``register(group)``, found by its name."""
