"""What scenes are labelled with, a file each; the recipe of a task says which it is. See `geoml.data.target`."""
