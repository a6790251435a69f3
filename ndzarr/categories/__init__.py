"""Hierarchies of classes: scores, losses and decisions."""

from ndzarr.categories.tree import CategoryTree

__all__ = ["CategoryTree"]
