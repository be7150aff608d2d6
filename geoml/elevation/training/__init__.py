"""Learning classes of points."""
