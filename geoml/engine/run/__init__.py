"""One run: its plan, its blocks, what is collected of them, its state."""
