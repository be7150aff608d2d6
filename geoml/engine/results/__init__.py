"""Runs that are done, in Python: layers, tables and scores of a folder or URL."""
