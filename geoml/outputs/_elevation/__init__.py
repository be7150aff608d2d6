"""Parts of the output of heights."""
