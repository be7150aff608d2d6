"""Where training data come from, a file each."""
