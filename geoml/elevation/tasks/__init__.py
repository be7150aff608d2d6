"""Tasks of this wing, one file each."""
