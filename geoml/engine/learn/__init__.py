"""Learning from few labels: from places with a class to a package and its reliability."""
