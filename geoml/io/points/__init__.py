"""Clouds of points: headers, coordinate systems and reading by window, of LAS, LAZ, COPC and EPT."""
