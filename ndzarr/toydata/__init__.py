"""Made-up images and videos with annotations, for demos and tests; nothing is downloaded.

`write_demo` writes a kwcoco dataset of image files.  `ToySampler` makes pixels when they are asked for, and writes
nothing.  Both show the same made-up country from the air: fields, woods, roads and a river, and on them vehicles, boats
and buildings with boxes, outlines, keypoints and tracks.  The pixels have the texture, edges and noise of photographs,
so that they compress and resample as those do.
"""

from ndzarr.toydata.dataset import write_demo
from ndzarr.toydata.sampler import ToySampler

__all__ = ["ToySampler", "write_demo"]
