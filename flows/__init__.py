"""The steps of geoml under Prefect 3: parse, call steps, map over blocks, collect. No arrays, no geometry."""

from geoml.errors import needs
from geoml.logs import guard

with needs("prefect", "flows"):
    from .server import be_patient

guard()  # what Prefect shows and keeps of log records is one line each, without secrets
be_patient()  # for every way in: each command, `geoml demo`, a notebook, the tests
