"""Parts of networks for pictures."""
