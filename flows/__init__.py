"""The steps of geoml under Prefect 3: parse, call steps, map over blocks, collect. No arrays, no geometry."""

from flows.server import be_patient

be_patient()  # for every way in: each command, `geoml demo`, a notebook, the tests
