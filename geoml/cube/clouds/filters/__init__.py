"""Ground filters: a file is one, its name is its name, as in ``--ground smrf``.

Each file has a frozen dataclass ``Config`` (its defaults are one set for town, open country and forest, in metres) and
``build(config)``, which gives a `geoml.cube.clouds.ground.GroundFilter`. They map points and not pixels and learn
nothing, so they are not model files; what every one promises is in tests/contract/test_every_ground_filter.py.
"""
