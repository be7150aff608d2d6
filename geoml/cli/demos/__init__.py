"""Demos: one file each, ``NAME.py`` is ``geoml demo --NAME``.

The first line of its docstring is the help of the flag, and ``run(out)`` runs it in a folder. A demo is
imported when it is run, so it may import what it likes.
"""
