"""Learning from few labels: places with a class in, a package and what can be said of it out."""
