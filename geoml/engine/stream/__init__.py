"""Chips or frames that come one after the other through one warm model, with a stated latency."""
