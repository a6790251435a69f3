"""Pyramids: levels, windows at any scale, transcoding."""
