"""One run: its plan, its blocks, its collected outputs, its state."""
