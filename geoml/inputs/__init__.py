"""Inputs: what a block reads, one file each.

`geoml.engine.contract` says what the class ``Input`` of a file does; a task names its input.
"""
