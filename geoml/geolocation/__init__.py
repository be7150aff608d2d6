"""Where a picture was taken: a wing that imports the core and that the core does not know."""
