"""Maps that open in a browser: a page that needs no network, and tiles of a run on this machine."""
