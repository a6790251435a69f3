"""Pyramids as files that others read."""
