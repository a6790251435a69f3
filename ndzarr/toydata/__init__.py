"""Where do annotated images and videos come from, without downloading any?

`write_demo` writes a kwcoco dataset of image files; `ToySampler` makes its pixels when they are asked for, and writes
nothing.  Both show the same made-up country from the air: fields, woods, roads and a river, and on them vehicles,
boats and buildings with boxes, outlines, keypoints and tracks.  The pixels have the texture, edges and noise of
photographs, so that they compress and resample as those do.
"""

from ndzarr.toydata.dataset import write_demo
from ndzarr.toydata.sampler import ToySampler

__all__ = ["ToySampler", "write_demo"]
