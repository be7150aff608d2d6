"""Outputs: how the raw output of a network becomes files, one file each.

`geoml.engine.contract` says what the class ``Output`` of a file does; a task names its output.
"""
