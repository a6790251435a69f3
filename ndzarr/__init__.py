"""Fast random access to small windows of large images and videos.

Public are the names of `__all__` and the modules `adapters`, `categories`, `errors`, `targets`, `torch` (needs
PyTorch), `toydata` and `viz`.  What needs heavier packages is imported when it is first used, so that `import ndzarr`
stays light.
`ndzarr.cli` and `ndzarr.ndsampler_compat` are imported by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ndzarr._indexing.plan import ReadPlan
from ndzarr._library.open import open
from ndzarr._pyramid.pyramid import Pyramid
from ndzarr._remote.settings import Remote
from ndzarr.errors import NdzarrError

if TYPE_CHECKING:
    from ndzarr._export.cog import export_cog
    from ndzarr._labels.dataset import dataset
    from ndzarr._library.push import push
    from ndzarr._library.verify import verify
    from ndzarr._prediction.detections import DetectionStitcher
    from ndzarr._prediction.stitcher import Stitcher
    from ndzarr._pyramid.bands import transcode
    from ndzarr.coco_sampler import CocoSampler
    from ndzarr.sampler import Sampler

__all__ = [
    "CocoSampler",
    "DetectionStitcher",
    "NdzarrError",
    "Pyramid",
    "ReadPlan",
    "Remote",
    "Sampler",
    "Stitcher",
    "dataset",
    "export_cog",
    "open",
    "push",
    "transcode",
    "verify",
]

_MODULES = ("adapters", "categories", "errors", "targets", "torch", "toydata", "viz")

_LAZY = {
    "CocoSampler": "ndzarr.coco_sampler",
    "DetectionStitcher": "ndzarr._prediction.detections",
    "Sampler": "ndzarr.sampler",
    "Stitcher": "ndzarr._prediction.stitcher",
    "dataset": "ndzarr._labels.dataset",
    "export_cog": "ndzarr._export.cog",
    "push": "ndzarr._library.push",
    "transcode": "ndzarr._pyramid.bands",
    "verify": "ndzarr._library.verify",
}
"""Public name to the module that it is imported from when first used."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ndzarr")
    if name in _MODULES:
        try:
            return import_module(f"ndzarr.{name}")
        except ModuleNotFoundError as error:  # an AttributeError is what hasattr() and inspect expect
            raise AttributeError(f"ndzarr.{name} needs the package {error.name!r}; install it") from error
    if name in _LAZY:
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'ndzarr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
