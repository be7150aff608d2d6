"""What detectors of objects learn from and are scored by."""
