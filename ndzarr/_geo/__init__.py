"""Coordinate reference systems and georeferencing."""
