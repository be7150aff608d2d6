"""Folders, buckets and servers; locks and hrefs."""
