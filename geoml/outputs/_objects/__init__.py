"""Parts of the output of objects."""
