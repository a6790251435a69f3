"""
Models: callables, modules of torch, and files of ONNX and TorchScript, where onnxruntime or torch is installed.

A model in a file is opened where it is run first, so that it travels to workers as the name of its file.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ndzarr.errors import MissingError, OptionError, SourceError

Array: TypeAlias = np.ndarray[Any, Any]
Model: TypeAlias = Callable[[Any], Any]
"""From images (sample, c, y, x) to maps (sample, c, y, x) or (sample, y, x), numpy or torch; or to `Found` of each."""
Found: TypeAlias = Mapping[str, Any]
"""Detections of a sample: `boxes`, and perhaps `scores`, `labels`, and `masks` or `segmentations`."""
TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")
_TYPES = {"float": "float32", "float16": "float16", "double": "float64", "uint8": "uint8", "uint16": "uint16",
          "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64"}  # fmt: skip
"""Types of ONNX to those of numpy."""


def run_model(model: Model, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | list[Found]:
    """Call a model: modules of torch with a tensor on their device and without gradients, others with the array."""
    if not hasattr(model, "state_dict") or not hasattr(model, "parameters"):
        return _plain(model(images))
    import torch

    parameters: Iterator[Any] = model.parameters()
    weight = next(parameters, None)
    with torch.inference_mode():
        given = torch.from_numpy(np.ascontiguousarray(images))
        if weight is not None:
            given = given.to(weight.device, weight.dtype)
        return _plain(model(given))


def identity(model: Model) -> str:
    """Return what tells a model in a file, or the weights of one of torch, from others; '' for other callables."""
    if isinstance(model, FileModel):
        status = os.stat(model.path)
        return repr((model, status.st_size, status.st_mtime_ns))
    state: Callable[[], Mapping[str, Any]] | None = getattr(model, "state_dict", None)
    weights = {} if state is None else state()
    sums = {name: zlib.crc32(np.ascontiguousarray(_array(value)).tobytes()) for name, value in weights.items()}
    return repr(sums)


def _plain(found: Any) -> np.ndarray[Any, Any] | list[Found]:
    """Return what a model gave as an array, or as dictionaries of arrays."""
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Mapping):
        found = found[1]  # of scripted detectors of torchvision: (losses, detections)
    if isinstance(found, list | tuple) and all(isinstance(one, Mapping) for one in found) and found:
        return [{key: _array(value) for key, value in one.items()} for one in found]
    return np.asarray(_array(found))


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def open_model(path: str | os.PathLike[str], normalised: Normalised | None = None) -> Any:
    """
    Return a model that `CocoSampler.predict` takes.

    Parameters
    ----------
    path
        An ONNX file, or one of TorchScript.
    normalised
        What is done to the pixels before.

    Raises
    ------
    MissingError
        There is no such file.
    OptionError
        The suffix is not understood, or the runtime is not installed.
    SourceError
        The file is not a model.
    """
    name = os.path.abspath(path)
    if not os.path.isfile(name):
        raise MissingError(f"{name}: no such model", path=name)
    suffix = Path(name).suffix.lower()
    if suffix != ".onnx" and suffix not in TORCHSCRIPT:
        known = ", ".join((".onnx", *TORCHSCRIPT))
        raise OptionError(
            f"{name}: a model in a file of {suffix!r} is not understood", path=name, hint=f"Known: {known}"
        )
    model = FileModel(name, suffix == ".onnx", normalised or Normalised())
    _ = model.run  # what is wrong with the file is said now
    return model


@dataclass(frozen=True)
class Normalised:
    """What is done to the pixels of each channel: divided, the mean subtracted, divided by the deviation."""

    divisor: float = 1.0
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    def apply(self, images: Array) -> Array:
        """Return images (sample, c, y, x), float32 if anything is done to them."""
        if self.divisor == 1.0 and not self.mean and not self.std:
            return images
        out = images.astype(np.float32) / np.float32(self.divisor)
        for values, operation in ((self.mean, np.subtract), (self.std, np.divide)):
            if values:
                if len(values) not in (1, images.shape[1]):
                    what = f"{len(values)} values to normalise with, and the images have {images.shape[1]} channels"
                    raise OptionError(what, key="normalise", hint="Give one for each channel, or one for all")
                operation(out, np.array(values, np.float32)[:, None, None], out=out)
        return out


@dataclass(frozen=True)
class FileModel:
    """A model in a file."""

    path: str
    onnx: bool
    normalised: Normalised = field(default_factory=Normalised)

    def __call__(self, images: Array) -> Any:
        """Run it over images (sample, c, y, x)."""
        return self.run(self.normalised.apply(images))

    def __getstate__(self) -> dict[str, Any]:
        """It pickles without what is open."""
        return {name: getattr(self, name) for name in ("path", "onnx", "normalised")}

    @cached_property
    def run(self) -> Any:
        """The function that runs it, opened when it is first asked for."""
        return _open_onnx(self.path) if self.onnx else _open_torchscript(self.path)


def _open_onnx(path: str) -> Any:
    try:
        import onnxruntime
    except ImportError:
        hint = "Run pip install 'ndzarr[onnx]'"
        raise OptionError(f"{path}: running it needs onnxruntime", path=path, hint=hint) from None
    try:
        providers = [one for one in onnxruntime.get_available_providers() if not one.startswith("Azure")]
        session = onnxruntime.InferenceSession(path, providers=providers)
    except Exception as error:  # its own classes of errors have no base but this
        if type(error).__module__.split(".")[0] != "onnxruntime":
            raise
        raise SourceError(f"{path}: is not a model that onnxruntime runs ({_brief(error)})", path=path) from error
    if len(session.get_inputs()) != 1:
        names = ", ".join(one.name for one in session.get_inputs())
        raise SourceError(f"{path}: the model has several inputs ({names}), and images are one", path=path)
    return _Session(path, session)


class _Session:
    """A model of onnxruntime."""

    def __init__(self, path: str, session: Any) -> None:
        self._path, self._session = path, session
        [given] = session.get_inputs()
        self._input, self._shape = given.name, given.shape
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        if kind not in _TYPES:
            raise SourceError(f"{path}: its input is of type {given.type}", path=path)
        self._dtype = np.dtype(_TYPES[kind])
        self._outputs = [one.name for one in session.get_outputs()]

    def __call__(self, images: Array) -> Any:
        images = images.astype(self._dtype, copy=False)
        fixed = self._shape[0] if self._shape and isinstance(self._shape[0], int) else None
        # Detectors give as many boxes as there are, of one image at a time.
        step = 1 if "boxes" in self._outputs else fixed or len(images)
        found: list[Any] = []
        for k in range(0, len(images), step):
            part = images[k : k + step]
            filled = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)]) if fixed else part
            outputs = self._ran(filled)
            if "boxes" in outputs:
                found.append(_unbatched(outputs))
            else:
                found.append(outputs[self._outputs[0]][: len(part)])
        return found if isinstance(found[0], Mapping) else np.concatenate(found)

    def _ran(self, images: Array) -> dict[str, Array]:
        try:
            outputs = self._session.run(None, {self._input: np.ascontiguousarray(images)})
        except Exception as error:  # as above
            if type(error).__module__.split(".")[0] != "onnxruntime":
                raise
            what = f"{self._path}: the model, whose input is {self._shape}, does not take images of {images.shape}"
            hint = "Choose the window, the channels and the batch size that it was made for"
            raise OptionError(f"{what} ({_brief(error)})", path=self._path, key="window", hint=hint) from error
        return dict(zip(self._outputs, outputs, strict=True))


def _unbatched(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return the outputs of a detector for one image, without an axis of samples."""
    ndim = {"boxes": 2, "scores": 1, "labels": 1}
    return {name: v[0] if v.ndim > ndim.get(name, v.ndim) and len(v) == 1 else v for name, v in outputs.items()}


def _open_torchscript(path: str) -> Any:
    try:
        import torch
    except ImportError:
        hint = "Run pip install torch (see https://pytorch.org for the one for your GPU)"
        raise OptionError(f"{path}: running it needs torch", path=path, hint=hint) from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        module = torch.jit.load(path, map_location=device)
    except RuntimeError as error:
        hint = "Save it with torch.jit.script(model).save(path), or export it to ONNX"
        raise SourceError(f"{path}: is not TorchScript ({_brief(error)})", path=path, hint=hint) from error
    module.eval()
    return partial(run_model, module)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
