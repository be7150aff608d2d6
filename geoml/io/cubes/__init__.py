"""Cubes: the same field at many times, in files of weather services and climate models; see docs/cubes.md."""
