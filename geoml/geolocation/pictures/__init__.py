"""Pictures as files: decoding, positions, lists."""
