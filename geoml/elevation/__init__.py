"""Heights: terrain and surface from points and stereo pairs, on a stated datum."""
