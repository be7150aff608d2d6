"""Points of a block, and surfaces through them."""
