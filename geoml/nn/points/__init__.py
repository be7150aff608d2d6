"""Blocks of networks on points."""
