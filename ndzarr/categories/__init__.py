"""What do the classes of a dataset mean to each other, and what follows for scores, losses and decisions?"""

from ndzarr.categories.tree import CategoryTree

__all__ = ["CategoryTree"]
