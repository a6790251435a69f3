"""Which windows are there to choose from?

`sampler.targets` answers with pandas tables whose rows are targets: `load_sample(row)` loads one, `load_batch(table)`
many.  Every method delegates to the module of its name, and every random choice to its seed.
"""

from __future__ import annotations

from ndzarr.targets.arranging import Arranging
from ndzarr.targets.windowing import Windowing


class Targets(Windowing, Arranging):
    """
    Tables of targets of a sampler: `sampler.targets`.

    Parameters
    ----------
    sampler
        Whose images, videos and annotations are meant.
    """
