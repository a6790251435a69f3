"""Fast random access to small windows of large images and videos."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ndzarr.errors import NdzarrError
from ndzarr.inplace.open import open
from ndzarr.plan.plan import ReadPlan
from ndzarr.pyramid.pyramid import Pyramid

if TYPE_CHECKING:
    from ndzarr.export.cog import export_cog
    from ndzarr.inplace.verify import verify
    from ndzarr.sampler.coco import CocoSampler
    from ndzarr.sampler.named import Sampler
    from ndzarr.transcoding import transcode

__all__ = ["CocoSampler", "NdzarrError", "Pyramid", "ReadPlan", "Sampler", "export_cog", "open", "transcode", "verify"]

_LAZY = {
    "CocoSampler": "ndzarr.sampler.coco",
    "Sampler": "ndzarr.sampler.named",
    "export_cog": "ndzarr.export.cog",
    "transcode": "ndzarr.transcoding",
    "verify": "ndzarr.inplace.verify",
}
"""Names that need heavier packages, imported when first used."""

_PACKAGES = ("categories", "toy")
"""Parts that are imported when first used."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ndzarr")
    if name in _PACKAGES:
        return import_module(f"ndzarr.{name}")
    if name in _LAZY:
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module 'ndzarr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
