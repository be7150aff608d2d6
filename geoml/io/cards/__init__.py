"""Model cards (STAC MLM)."""
