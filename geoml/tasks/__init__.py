"""Tasks, one file each, named after the file: what is learned, how it is scored and shown.

`geoml.engine.task` says what a file promises and finds it by its name; a wing has tasks in a folder of its own.
"""
