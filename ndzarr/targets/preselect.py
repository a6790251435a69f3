"""From which windows do `load_positive`, `load_negative` and `load_item` choose?

Until something is preselected, each annotation with a box is a positive, and negatives are drawn when they are asked
for.  `preselect` replaces both by tables.
"""

from __future__ import annotations

from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from ndzarr.counts import whole
from ndzarr.errors import OptionError, TargetError
from ndzarr.targets.rows import Rows

if TYPE_CHECKING:
    import pandas

    from ndzarr.targets.choose import Targets


class Pool:
    """
    Positives and negatives of a sampler.

    Parameters
    ----------
    targets
        Where windows come from.
    """

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self.positives: pandas.DataFrame | None = None
        """What was preselected."""
        self.negatives: pandas.DataFrame | None = None
        """What was preselected."""

    @cached_property
    def annot_ids(self) -> list[Any]:
        """Annotations with a box, in the order of the dataset."""
        table = self._targets.annotations
        boxed = np.flatnonzero(np.isfinite(table.columns).all(axis=0))
        ids: list[Any] = table.annot_id[boxed[np.argsort(table.position[boxed], kind="stable")]].tolist()
        return ids

    @property
    def n_positives(self) -> int:
        """Positives there are."""
        return len(self.annot_ids if self.positives is None else self.positives)

    @property
    def n_negatives(self) -> int:
        """Negatives that were preselected; any number can be drawn."""
        return 0 if self.negatives is None else len(self.negatives)

    def preselect(
        self,
        n_pos: int | None,
        n_neg: int | None,
        ratio: float | None,
        window_dims: Any,
        rng: Any,
        cover: bool,
        max_overlap: float,
    ) -> tuple[int, int]:
        """See `CocoSampler.preselect`."""
        if ratio is not None and n_neg is not None:
            raise OptionError(f"n_neg={n_neg!r} and neg_to_pos_ratio={ratio!r} both say how many; give only one")
        for name, number in (("n_pos", n_pos), ("n_neg", n_neg)):
            if number is not None:
                whole(name, number, least=0)
        given: Any = ratio
        if given is not None and not (isinstance(given, Real) and float(given) >= 0):
            raise OptionError(f"neg_to_pos_ratio={given!r}: expected a number of at least 0")
        draw = np.random.default_rng(rng)
        found = self._targets.positives(window_dims if cover else None, cover=cover, negative_classes=(), seed=draw)
        if n_pos is not None and n_pos < len(found):
            found = found.iloc[np.sort(draw.choice(len(found), n_pos, replace=False))].reset_index(drop=True)
        many = n_neg if n_neg is not None else int((ratio or 0) * len(found))
        avoiding = self._targets.negatives(
            many, "like_annotations" if window_dims is None else window_dims, max_overlap=max_overlap, seed=draw
        )
        self.positives, self.negatives = found, avoiding
        return len(found), len(avoiding)

    def positive(self, index: int | None, rng: Any = None) -> dict[str, Any]:
        """
        A target that holds an annotation.

        Raises
        ------
        TargetError
            There is no such one.
        """
        n = self.n_positives
        if not n:
            raise TargetError("the dataset has no annotations with boxes, so there are no positives")
        if index is None:
            index = int(np.random.default_rng(rng).integers(n))
        if not 0 <= index < n:
            raise TargetError(f"positive {index} does not exist; there are {n}")
        return {"aid": self.annot_ids[index]} if self.positives is None else Rows(self.positives)[index]

    def negative(self, index: int | None, window_dims: Any, rng: Any = None, gid: Any = None) -> dict[str, Any]:
        """
        A target that touches no annotation, or one of those that were preselected.

        Raises
        ------
        TargetError
            There is no such one.
        """
        if self.negatives is not None and gid is None:
            n = len(self.negatives)
            if not n:
                raise TargetError("no negatives were preselected; give n_neg or neg_to_pos_ratio to preselect")
            if index is None:
                index = int(np.random.default_rng(rng).integers(n))
            if not 0 <= index < n:
                raise TargetError(f"negative {index} does not exist; {n} were preselected")
            given = {} if window_dims is None else {"window_dims": window_dims}
            return Rows(self.negatives)[index] | given
        dims = "like_annotations" if window_dims in (None, "extent") else window_dims
        ids = None if gid is None else [gid]
        return Rows(self._targets.negatives(1, dims, seed=rng if rng is not None else index, ids=ids))[0]
