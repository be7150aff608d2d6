"""From files of points or a pair to a run over blocks."""
