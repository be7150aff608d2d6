"""Synthetic data with known truth, for tests, docs and users: scenes with catalogs and models, and pictures."""

from geoml.testing.files import tree as tree
from geoml.testing.scenes import BAD_QUALITY as BAD_QUALITY
from geoml.testing.scenes import COLORS as COLORS
from geoml.testing.scenes import Map as Map
from geoml.testing.scenes import Scene as Scene
from geoml.testing.scenes import card as card
from geoml.testing.scenes import constant_model as constant_model
from geoml.testing.scenes import levels as levels
from geoml.testing.scenes import read_map as read_map
from geoml.testing.scenes import small_unet as small_unet
from geoml.testing.scenes import smooth as smooth
from geoml.testing.scenes import threshold_model as threshold_model
from geoml.testing.scenes import write_catalog as write_catalog
from geoml.testing.scenes import write_cog as write_cog
