"""What a run is asked for heights."""
