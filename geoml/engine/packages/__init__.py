"""Model packages: loaded, written, measured, compared and calibrated."""
