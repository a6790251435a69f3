"""What do all ways to choose windows look up?

The images and videos of a sampler, its categories, and the spatial indexes of its annotations: each made when it is
first needed, and kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ndzarr.sampler.annotations import AnnotationTable
from ndzarr.targets.classes import Classes
from ndzarr.targets.spaces import Spaces, boxes_of, spaces_of

if TYPE_CHECKING:
    from ndzarr.sampler.coco import CocoSampler
    from ndzarr.targets.overlap import Index


class Indexed:
    """
    What is known about the windows of a sampler.

    Parameters
    ----------
    sampler
        Whose images, videos and annotations are meant.
    """

    def __init__(self, sampler: CocoSampler) -> None:
        self.sampler = sampler
        """The `ndzarr.CocoSampler`."""
        self._spaces: dict[str, Spaces] = {}
        self._indexes: dict[str, Index] = {}

    def __repr__(self) -> str:
        return f"<targets of {repr(self.sampler).splitlines()[0]}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sampler,)  # trees do not travel: they are built anew where they are needed

    @property
    def annotations(self) -> AnnotationTable:
        """All annotations as columns."""
        return self.sampler.annotations

    @cached_property
    def classes(self) -> Classes:
        """The categories, by name and id."""
        return Classes(self.sampler.dset.index.cats)

    def spaces(self, kind: str, ids: Iterable[Any] | None = None) -> Spaces:
        """Images ('image') or videos ('video') with their sizes; all, or those of the given ids."""
        if kind not in self._spaces:
            self._spaces[kind] = spaces_of(self.sampler, kind)
        return self._spaces[kind] if ids is None else self._spaces[kind].some(ids)

    def index(self, spaces: Spaces) -> Index:
        """The spatial index of the annotations in some spaces; that of all images, or videos, is kept."""
        from ndzarr.targets.overlap import Index

        if spaces is not self._spaces.get(spaces.kind):
            return Index(spaces, boxes_of(spaces, self.annotations, self.sampler._dataset))
        if spaces.kind not in self._indexes:
            self._indexes[spaces.kind] = Index(spaces, boxes_of(spaces, self.annotations, self.sampler._dataset))
        return self._indexes[spaces.kind]
