"""Fit, evaluate and predict: the only loops of geoml, one each, for every model and task."""
