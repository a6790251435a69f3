"""Models in files are run over whole images."""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr._prediction.runtimes import Normalised, open_model
from ndzarr.cli import main
from ndzarr.errors import MissingError, OptionError, SourceError

FLOAT, UINT8, INT64 = 1, 2, 7
"""Numbers of types in onnx.proto."""


def field(number, value):
    """A field of a protobuf message: a number, text, or another message."""
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + varint(len(data)) + data


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def value(name, kind, shape):
    """onnx.proto's ValueInfoProto; text is a length that is not fixed."""
    dims = b"".join(field(1, field(2 if isinstance(n, str) else 1, n)) for n in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, dims)))


def tensor(name, array):
    """onnx.proto's TensorProto."""
    kind = {"f": FLOAT, "i": INT64}[array.dtype.kind]
    return b"".join(field(1, n) for n in array.shape) + field(2, kind) + field(8, name) + field(9, array.tobytes())


def node(operation, inputs, output):
    return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operation)


def model(path, nodes, inputs, outputs, constants=()):
    """Write an ONNX file."""
    graph = b"".join(field(1, one) for one in nodes) + field(2, "g") + b"".join(field(5, one) for one in constants)
    graph += b"".join(field(11, one) for one in inputs) + b"".join(field(12, one) for one in outputs)
    path.write_bytes(field(1, 8) + field(7, graph) + field(8, field(2, 17)))
    return path


@pytest.fixture
def picture(tmp_path):
    Image.fromarray(photo(150, 200)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


@pytest.mark.parametrize("batch", ["n", 3])
def test_an_onnx_model_gives_what_its_arithmetic_gives(picture, tmp_path, batch):
    pytest.importorskip("onnxruntime")
    weights = np.array([0.5, 0.25, 0.25], "f4").reshape(1, 3, 1, 1)
    path = model(
        tmp_path / "grey.onnx", [node("Conv", ["x", "w"], "y")], [value("x", FLOAT, [batch, 3, "h", "w0"])],
        [value("y", FLOAT, [batch, 1, "h", "w0"])], [tensor("w", weights)],
    )  # fmt: skip
    args = ["predict", path, picture, "-o", tmp_path / "out.zarr", "--window", "64x80", "--divide", "255",
            "--mean", "0.5", "--channels", "grey", "--input-channels", "b|g|r",
            "--workdir", tmp_path / "work"]  # fmt: skip
    result = CliRunner().invoke(main, [*map(str, args)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"wrote {tmp_path / 'out.zarr'}: c=1 x y=150 x x=200\n"
    found = ndzarr.open(tmp_path / "out.zarr")
    want = (photo(150, 200).astype("f4")[..., ::-1] / 255 - 0.5) @ weights.ravel()
    assert found.channels == ("grey",)
    np.testing.assert_allclose(found.read()[0], want, atol=1e-5)
    again = pickle.loads(pickle.dumps(open_model(path)))
    assert again(np.zeros((2, 3, 4, 4), "u1")).shape == (2, 1, 4, 4)
    with raises(OptionError, path=path, key="window", hint="channels"):
        again(np.zeros((2, 4, 4, 4), "u1"))


def test_an_onnx_detector_gives_a_file_of_objects(picture, tmp_path):
    pytest.importorskip("onnxruntime")
    constants = [tensor(name, np.array(v, kind)) for name, v, kind in (
        ("boxes0", [[10, 20, 30, 50]], "f4"), ("scores0", [0.75], "f4"), ("labels0", [1], "i8"),
    )]  # fmt: skip
    path = model(
        tmp_path / "d.onnx", [node("Identity", [f"{name}0"], name) for name in ("boxes", "scores", "labels")],
        [value("x", UINT8, ["n", 3, "h", "w"])],
        [value("boxes", FLOAT, [1, 4]), value("scores", FLOAT, [1]), value("labels", INT64, [1])], constants,
    )  # fmt: skip
    args = ["predict", path, picture, "-o", tmp_path / "d.json", "--window", "75x100", "--overlap", "0",
            "--classes", "-,boat", "--workdir", tmp_path / "work"]  # fmt: skip
    result = CliRunner().invoke(main, [*map(str, args)])
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("4 detections\n")
    content = json.loads((tmp_path / "d.json").read_text())
    assert sorted(a["bbox"] for a in content["annotations"]) == [[x, y, 20, 30] for x in (10, 110) for y in (20, 95)]
    assert {content["categories"][a["category_id"] - 1]["name"] for a in content["annotations"]} == {"boat"}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_scripted_module_gives_what_the_module_gives(picture, tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Conv2d(3, 2, 1)
    torch.jit.trace(module, torch.zeros(1, 3, 8, 8)).save(str(tmp_path / "m.pt"))
    sampler = ndzarr.Sampler([picture], tmp_path / "work")
    found = sampler.predict(open_model(tmp_path / "m.pt"), tmp_path / "out.zarr", window=(64, 64), overlap=16)
    with torch.no_grad():
        want = module(torch.from_numpy(np.moveaxis(photo(150, 200), -1, 0)[None].astype("f4")))[0].numpy()
    np.testing.assert_allclose(found.read(), want, rtol=1e-5, atol=1e-3)
    (tmp_path / "w.pt").write_bytes(b"weights")
    with raises(SourceError, path=tmp_path / "w.pt", hint="torch.jit"):
        open_model(tmp_path / "w.pt")


def test_what_cannot_be_run_says_what_to_do(tmp_path, monkeypatch):
    for name in ("a.onnx", "a.pt", "a.h5"):
        (tmp_path / name).write_bytes(b"model")
    with raises(MissingError, path=tmp_path / "b.onnx"):
        open_model(tmp_path / "b.onnx")
    with raises(OptionError, path=tmp_path / "a.h5", hint=".onnx"):
        open_model(tmp_path / "a.h5")
    with raises(OptionError, key="normalise", hint="each channel"):
        Normalised(mean=(1, 2)).apply(np.zeros((1, 3, 4, 4)))
    with monkeypatch.context() as patch:
        for package in ("onnxruntime", "torch"):
            patch.setitem(sys.modules, package, None)
        with raises(OptionError, path=tmp_path / "a.onnx", hint="pip install 'ndzarr[onnx]'"):
            open_model(tmp_path / "a.onnx")
        with raises(OptionError, path=tmp_path / "a.pt", hint="pip install torch"):
            open_model(tmp_path / "a.pt")
    pytest.importorskip("onnxruntime")
    with raises(SourceError, path=tmp_path / "a.onnx"):
        open_model(tmp_path / "a.onnx")
