"""Pictures matched with a map."""
