"""What ndzarr writes opens elsewhere, with the same pixels and the right names and places."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

import ndzarr
from helpers.arrays import random_array, same
from helpers.errors import raises
from helpers.metadata_schemas import validate_multiscales, validate_ome
from helpers.pyramids import make, read_with_tensorstore, read_with_zarr
from ndzarr._geo.pixel_size import PixelSize, Quantity
from ndzarr.errors import OptionError

CASES = {
    "rgb": (("c", "y", "x"), (3, 700, 530), "u1", {"channels": ("red", "green", "blue")}),
    "bands": (("c", "y", "x"), (7, 300, 301), "u2", {"nodata": 0.0, "channels": tuple("ABCDEFG")}),
    "video": (("t", "c", "y", "x"), (4, 3, 40, 260), "u1", {"times": np.array([0, 0.04, 0.08, 0.5])}),
    "volume": (("t", "c", "z", "y", "x"), (2, 1, 3, 300, 20), "f4", {"nodata": float("nan")}),
    "labels": (("c", "y", "x"), (1, 300, 300), "i4", {"kind": "labels"}),
    "mask": (("c", "y", "x"), (1, 30, 30), "?", {"nodata": float("inf")}),
    "complex": (("c", "y", "x"), (1, 30, 280), "c8", {"name": 'ünï "quoted" \\ name.tif'}),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request, tmp_path_factory):
    """(array, pyramid, arguments)."""
    dims, shape, dtype, options = CASES[request.param]
    array = random_array(shape, dtype, 1, zeros=0.2)
    return array, make(tmp_path_factory.mktemp(request.param), array, dims, **options), options


@pytest.fixture
def quiet():
    """zarr-python says of consolidated metadata and of strings that they may change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"zarr\..*")
        warnings.filterwarnings("ignore", message=".*(onsolidated metadata|Zarr format 3|Zarr V3).*")
        yield


def attributes(pyramid):
    return json.loads(Path(pyramid.path, "zarr.json").read_text())["attributes"]


def test_zarr_python_reads_the_same_pixels(case):
    array, pyramid, _ = case
    assert same(read_with_zarr(pyramid.path, "0/image"), array)
    for k in range(len(pyramid.levels)):
        assert same(read_with_zarr(pyramid.path, f"{k}/image"), pyramid.read(level=k))


def test_tensorstore_reads_the_same_pixels(case):
    array, pyramid, _ = case
    assert same(read_with_tensorstore(pyramid.path, "0/image"), array)
    for k in range(len(pyramid.levels)):
        assert same(read_with_tensorstore(pyramid.path, f"{k}/image"), pyramid.read(level=k))


def test_zarr_python_finds_every_node_with_and_without_consolidated_metadata(case, quiet):
    _, pyramid, _ = case
    for consolidated in (True, False):
        group = zarr.open_group(pyramid.path, mode="r", use_consolidated=consolidated)
        members = dict(group.members(max_depth=None))
        wanted = {str(k) for k in range(len(pyramid.levels))}
        wanted |= {f"{k}/{name}" for k in wanted for name in ("image", *pyramid.dims)}
        assert set(members) == wanted
        for k, level in enumerate(pyramid.levels):
            image = members[f"{k}/image"]
            assert image.metadata.dimension_names == pyramid.dims
            assert image.shape == level.shape
            assert image.chunks == level.chunks


def test_consolidated_metadata_are_those_of_the_nodes(case):
    _, pyramid, _ = case
    root = json.loads(Path(pyramid.path, "zarr.json").read_text())
    nodes = root["consolidated_metadata"]["metadata"]
    files = [p for p in Path(pyramid.path).rglob("zarr.json") if p.parent != Path(pyramid.path)]
    assert {p.parent.relative_to(pyramid.path).as_posix() for p in files} == set(nodes)
    for path, node in nodes.items():
        assert json.loads(Path(pyramid.path, path, "zarr.json").read_text()) == node


def test_metadata_are_json_that_any_parser_takes(case):
    _, pyramid, _ = case

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    for file in Path(pyramid.path).rglob("zarr.json"):
        json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)


def test_metadata_validate_against_the_published_schemas(case):
    validate_ome(attributes(case[1]))
    validate_multiscales(attributes(case[1]))


def test_xarray_opens_the_tree_with_all_coordinates(case, quiet):
    array, pyramid, options = case
    with xarray.open_datatree(pyramid.path, engine="zarr", chunks=None) as tree:
        assert list(tree.children) == [str(k) for k in range(len(pyramid.levels))]
        for k, level in enumerate(pyramid.levels):
            image = tree[str(k)]["image"]
            assert image.dims == pyramid.dims
            # xarray masks what equals fill_value only where an attribute _FillValue asks for it
            assert same(np.asarray(image.values), pyramid.read(level=k))
            for name in ("y", "x"):
                n, f = image.sizes[name], 2**k
                assert np.array_equal(image[name], np.arange(n) * f + f / 2)
            assert image["c"].values.tolist() == list(pyramid.channels)
            if "t" in image.dims:
                assert np.array_equal(image["t"], options.get("times", np.arange(array.shape[0])))
            own = pyramid.to_xarray(level=k)
            for name in image.dims:
                assert np.array_equal(own[name], image[name])
            assert own.shape == level.shape


def test_the_ome_zarr_reader_finds_the_image_and_its_levels(case, quiet):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    array, pyramid, _ = case
    location = parse_url(pyramid.path)
    assert location is not None
    nodes = list(Reader(location)())
    assert len(nodes) == 1
    node = nodes[0]
    assert len(node.data) == len(pyramid.levels)
    for k, data in enumerate(node.data):
        assert data.shape == pyramid.levels[k].shape
        assert same(np.asarray(data), pyramid.read(level=k))
    assert [axis["name"] for axis in node.metadata["axes"]] == list(pyramid.dims)
    if "omero" in pyramid.attrs["ome"]:  # classes have no channels that are shown
        assert node.metadata.get("channel_names", node.metadata.get("name")) == list(pyramid.channels)
    del array


def test_levels_lie_where_ome_says_a_mean_of_pixels_lies(case):
    _, pyramid, _ = case
    multiscale = attributes(pyramid)["ome"]["multiscales"][0]
    assert [axis["name"] for axis in multiscale["axes"]] == list(pyramid.dims)
    for k, dataset in enumerate(multiscale["datasets"]):
        transforms = {t["type"]: t[t["type"]] for t in dataset["coordinateTransformations"]}
        f = 2**k
        assert transforms["scale"] == [f if d in "yx" else 1 for d in pyramid.dims]
        assert transforms["translation"] == [(f - 1) / 2 if d in "yx" else 0 for d in pyramid.dims]
        assert pyramid.levels[k].factors == tuple(transforms["scale"])


def test_the_zarr_conventions_say_that_levels_begin_at_the_same_corner(case):
    _, pyramid, _ = case
    found = attributes(pyramid)["multiscales"]["layout"]
    assert [item["asset"] for item in found] == [str(k) for k in range(len(pyramid.levels))]
    scale = np.ones(len(pyramid.dims))
    for k, item in enumerate(found):
        assert item["transform"]["translation"] == [0] * len(pyramid.dims)
        assert item.get("derived_from") == (str(k - 1) if k else None)
        scale *= item["transform"]["scale"]  # from the level it is derived from
        assert tuple(scale) == pyramid.levels[k].factors


def test_nothing_but_registered_codecs_and_no_coordinates_at_the_root(case):
    _, pyramid, _ = case
    assert {p.name for p in Path(pyramid.path).iterdir()} == {"zarr.json", *map(str, range(len(pyramid.levels)))}
    meta = json.loads(Path(pyramid.path, "0/image/zarr.json").read_text())
    names = [c["name"] for c in meta["codecs"]] + [c["name"] for c in meta["codecs"][0]["configuration"]["codecs"]]
    assert set(names) <= {"sharding_indexed", "bytes", "blosc", "zstd", "crc32c", "transpose"}


def test_what_a_store_says_of_itself_comes_back(case):
    array, pyramid, options = case
    nodata = options.get("nodata")
    assert pyramid.nodata == nodata or (pyramid.nodata != pyramid.nodata and nodata != nodata)
    assert pyramid.channels == options.get("channels", tuple(f"c{i}" for i in range(len(pyramid.channels))))
    assert pyramid.kind == options.get("kind", "intensity")
    assert pyramid.times == (tuple(options["times"]) if "times" in options else None)
    assert pyramid.sizes == dict(zip(pyramid.dims, array.shape, strict=True))


def test_source_metadata_and_pixel_sizes_are_recorded(tmp_path):
    y, x, z = Quantity(0.5, "micrometer"), Quantity(0.25, "micrometer"), Quantity(2.0, "nanometer")
    array = random_array((1, 2, 300, 300), "u1")
    about = {"metadata": {"format": "test"}, "pixel_size": PixelSize(y=y, x=x, z=z), "name": "scan.tif"}
    pyramid = make(tmp_path, array, ("c", "z", "y", "x"), **about)
    found = attributes(pyramid)
    validate_ome(found)
    validate_multiscales(found)
    multiscale = found["ome"]["multiscales"][0]
    assert multiscale["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1, 2, 1, 0.5]},
        {"type": "translation", "translation": [0, 0, 0.25, 0.125]},
    ]
    assert [axis.get("unit") for axis in multiscale["axes"]] == [None, "nanometer", "micrometer", "micrometer"]
    assert pyramid.pixel_size == about["pixel_size"]
    assert pyramid.levels[1].factors == (1, 1, 2, 2)
    assert found["ndzarr"]["source"]["format"] == "test"


def test_viewers_call_an_image_by_its_name_and_not_by_its_whole_path(tmp_path):
    np.save(tmp_path / "scan.npy", np.zeros((9, 9), np.uint8))
    pyramid = ndzarr.transcode(tmp_path / "scan.npy", tmp_path / "a.zarr")
    assert pyramid.attrs["ome"]["multiscales"][0]["name"] == "scan.npy"


def test_metadata_of_ome_zarr_06_say_what_those_of_05_say(tmp_path):
    """The rules of the draft (0.6rc0): one transformation a level, from its path to the system that states the axes."""
    volume = np.zeros((2, 40, 300, 200), "u2")
    known = {"axes": "czyx", "reduce": "zyx"}
    old = ndzarr.transcode(volume, tmp_path / "old.zarr", **known).attrs["ome"]
    new = ndzarr.transcode(volume, tmp_path / "new.zarr", **known, ome_version="0.6")
    ome = new.attrs["ome"]
    assert (old["version"], ome["version"]) == ("0.5", "0.6")
    [before], [image] = old["multiscales"], ome["multiscales"]
    [system] = image["coordinateSystems"]
    assert system["axes"] == before["axes"]
    assert "axes" not in image
    for level, dataset in zip(before["datasets"], image["datasets"], strict=True):
        [step] = dataset["coordinateTransformations"]
        assert (step["input"], step["output"]) == ({"path": dataset["path"]}, {"name": system["name"]})
        assert (step["type"], step["transformations"]) == ("sequence", level["coordinateTransformations"])
    again = ndzarr.open(new.path)
    assert again.dims == ("c", "z", "y", "x")
    assert [level.factors for level in again.levels] == [(1, f, f, f) for f in (1, 2)]
    assert ndzarr.verify(new.path).ok
    with raises(OptionError, key="ome_version"):
        ndzarr.transcode(volume, tmp_path / "a.zarr", axes="czyx", ome_version="0.7")
