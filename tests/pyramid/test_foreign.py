"""Arrays of other writers: whichever way ndzarr takes, the pixels are those that zarr-python and tensorstore read."""

import gzip
import pickle
import tempfile
import warnings

import numcodecs
import numpy as np
import pytest
import tensorstore as ts
import zarr
import zarr.codecs as zc
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ndzarr
from helpers.arrays import DTYPES, random_array, same
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from helpers.pyramids import read_with_tensorstore, read_with_zarr
from ndzarr.errors import DamagedError, MissingError, OptionError, SourceError, StoreError

HOT, SLOW = "local files", "zarr-python"

COMPRESSORS = {
    "none": (),
    "crc32c": (zc.Crc32cCodec(),),
    "blosc": (zc.BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"),),
    "blosc zstd": (zc.BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),),
    "blosc noshuffle crc32c": (zc.BloscCodec(cname="lz4hc", shuffle="noshuffle"), zc.Crc32cCodec()),
    "zstd": (zc.ZstdCodec(level=1),),
    "zstd checksum": (zc.ZstdCodec(level=3, checksum=True),),
    "zstd crc32c": (zc.ZstdCodec(level=-1), zc.Crc32cCodec()),
    "gzip": (zc.GzipCodec(level=1),),
    "gzip crc32c": (zc.GzipCodec(level=1), zc.Crc32cCodec()),
}


def fill_values(dtype):
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind in "iu":
        return st.sampled_from((0, 1, int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)))
    special = [0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf")]
    if dtype.kind == "c":
        return st.sampled_from([complex(a, b) for a in special for b in (0.0, 2.0, float("nan"), float("inf"))])
    return st.sampled_from(special)


@st.composite
def layouts(draw):
    """(shape, chunks, shards or None)."""
    shape = tuple(draw(st.lists(st.integers(1, 14), min_size=2, max_size=5)))
    chunks = tuple(draw(st.integers(1, n + 2)) for n in shape)
    shards = tuple(c * draw(st.integers(1, 3)) for c in chunks) if draw(st.booleans()) else None
    return shape, chunks, shards


def windows(shape):
    def axis(n):
        slices = st.builds(lambda a, k, s: slice(a, a + k, s), st.integers(0, n), st.integers(0, n), st.integers(1, 3))
        return st.one_of(slices, slices, st.lists(st.integers(0, n - 1), max_size=3))

    return st.tuples(*map(axis, shape))


def cut(array, window):
    for axis, want in enumerate(window):
        whole = (slice(None),) * axis
        array = array[(*whole, want)] if isinstance(want, slice) else np.take(array, np.asarray(want, int), axis=axis)
    return array


def check(data, path, array, engine):
    """Open, compare whole and in windows, and see which way it was read."""
    pyramid = ndzarr.open(path, axes="tczyx"[-array.ndim :])
    assert pyramid.levels[0].array.engine.startswith(engine)
    assert same(pyramid.read(), array)
    named = [dict(zip(pyramid.dims, data.draw(windows(array.shape)), strict=True)) for _ in range(4)]
    for window, pixels in zip(named, pyramid.read_many(named), strict=True):
        assert same(pixels, cut(array, window.values()))
        assert same(pyramid.read(**window), pixels)
    plan = pyramid.plan(named)
    assert all(name.startswith(engine) for name, _ in plan.explain().engines)
    return pyramid


@given(st.data(), layouts(), st.sampled_from(DTYPES), st.sampled_from(sorted(COMPRESSORS)), st.integers(0, 3))
@examples(50)
def test_arrays_written_by_zarr_python(data, layout, dtype, codec, variant):
    shape, chunks, shards = layout
    big = variant == 1 and dtype.itemsize > 1
    order = data.draw(st.permutations(range(len(shape)))) if variant == 2 else None
    fill = data.draw(fill_values(dtype))
    part = tuple(slice(data.draw(st.integers(0, n)), data.draw(st.integers(0, n))) for n in shape)
    with tempfile.TemporaryDirectory() as folder:
        written = zarr.create_array(
            folder,
            shape=shape,
            chunks=chunks,
            shards=shards,
            dtype=dtype,
            fill_value=fill,
            compressors=COMPRESSORS[codec],
            serializer=zc.BytesCodec(endian="big") if big else "auto",
            filters=[zc.TransposeCodec(order=tuple(order))] if order else "auto",
            chunk_key_encoding={
                "name": data.draw(st.sampled_from(("default", "v2"))),
                "separator": data.draw(st.sampled_from("/.")),
            },
            overwrite=True,
        )
        written[part] = random_array(shape, dtype, len(codec))[part]
        array = read_with_zarr(folder)
        check(data, folder, array, HOT)


TS_TYPES = {
    "bool": "?",
    "uint8": "u1",
    "int16": "i2",
    "uint32": "u4",
    "int64": "i8",
    "float16": "f2",
    "float32": "f4",
    "float64": "f8",
    "complex64": "c8",
}
TS_CODECS = {
    "none": [],
    "blosc": [{"name": "blosc", "configuration": {"cname": "zstd", "clevel": 3, "shuffle": "bitshuffle"}}],
    "zstd": [{"name": "zstd", "configuration": {"level": 1}}],
    "zstd crc32c": [{"name": "zstd", "configuration": {"level": 1}}, {"name": "crc32c"}],
    "gzip": [{"name": "gzip", "configuration": {"level": 1}}],
}


@given(
    st.data(),
    layouts(),
    st.sampled_from(sorted(TS_TYPES)),
    st.sampled_from(sorted(TS_CODECS)),
    st.booleans(),
    st.sampled_from(("start", "end")),
    st.sampled_from(("little", "big")),
    st.booleans(),
)
@examples(40)
def test_arrays_written_by_tensorstore(data, layout, dtype, codec, transposed, location, index_endian, checked):
    shape, chunks, shards = layout
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, *TS_CODECS[codec]]
    if transposed:
        order = list(data.draw(st.permutations(range(len(shape)))))
        codecs = [{"name": "transpose", "configuration": {"order": order}}, *codecs]
    if shards:
        index = [{"name": "bytes", "configuration": {"endian": index_endian}}, *[{"name": "crc32c"}] * checked]
        sharding = {"chunk_shape": chunks, "codecs": codecs, "index_codecs": index, "index_location": location}
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    metadata = {
        "shape": shape,
        "data_type": dtype,
        "codecs": codecs,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shards or chunks}},
    }
    with tempfile.TemporaryDirectory() as folder:
        store = {"driver": "zarr3", "kvstore": {"driver": "file", "path": folder}, "metadata": metadata}
        written = ts.open(store, create=True).result()
        part = tuple(slice(a := data.draw(st.integers(0, n - 1)), data.draw(st.integers(a + 1, n))) for n in shape)
        written[part] = random_array(shape, TS_TYPES[dtype], 3)[part]
        check(data, folder, read_with_tensorstore(folder), HOT)


V2_CODECS = (None, numcodecs.Blosc("lz4"), numcodecs.Zstd(1), numcodecs.GZip(1), numcodecs.Zlib(1))


@given(
    st.data(),
    layouts(),
    st.sampled_from(DTYPES),
    st.sampled_from("<>"),
    st.sampled_from(V2_CODECS),
    st.sampled_from("CF"),
    st.sampled_from("/."),
    st.booleans(),
)
@examples(30)
def test_arrays_of_zarr_v2(data, layout, dtype, endian, codec, order, separator, delta):
    shape, chunks, _ = layout
    stored = dtype.newbyteorder(endian)
    with tempfile.TemporaryDirectory() as folder:
        written = zarr.create_array(
            folder,
            shape=shape,
            chunks=chunks,
            dtype=stored,
            zarr_format=2,
            order=order,
            fill_value=data.draw(fill_values(dtype)),
            filters=[numcodecs.Delta(stored)] if delta and dtype.kind in "iu" else None,
            compressors=codec,
            chunk_key_encoding={"name": "v2", "separator": separator},
        )
        part = tuple(slice(data.draw(st.integers(0, n)), data.draw(st.integers(0, n))) for n in shape)
        written[part] = random_array(shape, dtype, 5)[part]
        pyramid = check(data, folder, read_with_zarr(folder).astype(dtype), HOT)
        assert pyramid.dtype.isnative
        assert ndzarr.verify(folder).ok


def test_gzip_of_several_members_is_read_as_zarr_python_reads_it(tmp_path):
    array = random_array((32, 32), "u1")
    written = zarr.create_array(tmp_path / "a", shape=(32, 32), chunks=(32, 32), dtype="u1", compressors=zc.GzipCodec())
    written[...] = array
    file, raw = tmp_path / "a" / "c" / "0" / "0", array.tobytes()
    file.write_bytes(gzip.compress(raw[:100]) + gzip.compress(raw[100:]))
    assert same(read_with_zarr(tmp_path / "a"), array)
    assert same(ndzarr.open(tmp_path / "a").read(), array)
    file.write_bytes(gzip.compress(raw) + gzip.compress(raw[:100]))
    with raises(DamagedError, path=file):
        ndzarr.open(tmp_path / "a").read()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"compressors": {"name": "numcodecs.lzma", "configuration": {}}}, "codecs bytes numcodecs.lzma"),
        (
            {
                "filters": {
                    "name": "numcodecs.fixedscaleoffset",
                    "configuration": {"offset": 0, "scale": 1, "dtype": "u2"},
                }
            },
            "codecs numcodecs.fixedscaleoffset bytes",
        ),
        ({"compressors": numcodecs.LZMA(), "zarr_format": 2}, "Zarr v2, codec 'lzma'"),
        (
            {"filters": [numcodecs.FixedScaleOffset(0, 1, "u2")], "compressors": None, "zarr_format": 2},
            "Zarr v2, filters fixedscaleoffset",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_explain_says_why_the_hot_path_does_not_read_an_array(tmp_path, options, reason):
    array = random_array((20, 20), "u2")
    options = {"compressors": None} | options
    written = zarr.create_array(tmp_path / "a", shape=(20, 20), chunks=(8, 8), dtype="u2", **options)
    written[...] = array
    pyramid = ndzarr.open(tmp_path / "a")
    assert same(pyramid.read(), array)
    assert pyramid.read(y=[], x=[1]).shape == (0, 1)
    assert pyramid.plan([{}]).explain().engines == ((f"zarr-python ({reason})", 9),)


def test_plans_mix_arrays_of_both_engines(tmp_path):
    from ndzarr._indexing.plan import plan_reads
    from ndzarr._store.read import execute

    arrays, requests = [], []
    for k, compressor in enumerate((zc.GzipCodec(), zc.ZstdCodec(), zc.GzipCodec())):
        array = random_array((20, 20), "i4", k)
        written = zarr.create_array(
            tmp_path / str(k), shape=(20, 20), chunks=(8, 8), dtype="i4", compressors=compressor
        )
        written[...] = array
        arrays.append(array)
        requests.append((ndzarr.open(tmp_path / str(k)).levels[0].array, (slice(3, 17, 2), (1, 19))))
    for array, pixels in zip(arrays, execute(plan_reads(requests)), strict=True):
        assert same(pixels, array[3:17:2, [1, 19]])


def pyramid_of(folder, arrays, dims, scales, zarr_format=3):
    """An OME-Zarr image with any levels; None among the scales leaves out the transformation."""
    group = zarr.open_group(folder, mode="w", zarr_format=zarr_format)
    datasets = []
    for k, (array, scale) in enumerate(zip(arrays, scales, strict=True)):
        group.create_array(str(k), data=array, chunks=tuple(min(n, 16) for n in array.shape))
        transform = {} if scale is None else {"coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
        datasets.append({"path": str(k), **transform})
    image = {"axes": [{"name": d} for d in dims], "datasets": datasets}
    multiscales = {"multiscales": [image | ({"version": "0.4"} if zarr_format == 2 else {})]}
    group.attrs.update(multiscales if zarr_format == 2 else {"ome": {"version": "0.5", **multiscales}})
    return ndzarr.open(folder)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_ome_zarr_images_of_other_writers_open_with_their_levels(tmp_path, zarr_format):
    arrays = [random_array((2, n, n + 5), "u2", n) for n in (64, 32, 16)]
    pyramid = pyramid_of(tmp_path / "a", arrays, "cyx", [(1, 0.25 * f, 0.5 * f) for f in (1, 2, 4)], zarr_format)
    assert [level.factors for level in pyramid.levels] == [(1, 1, 1), (1, 2, 2), (1, 4, 4)]
    assert pyramid.dims == ("c", "y", "x")
    for k, array in enumerate(arrays):
        assert same(pyramid.read(level=k), array)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("scales", [[(1, 1), (2, 2)], [None, None]], ids=["scales", "no scales"])
def test_levels_that_were_rounded_down_are_read_to_the_border(tmp_path, zarr_format, scales):
    full = random_array((101, 101), "u1")
    half = full[:100, :100].reshape(50, 2, 50, 2).mean(axis=(1, 3)).astype("u1")
    pyramid = pyramid_of(tmp_path / "a", [full, half], "yx", scales, zarr_format)
    assert pyramid.levels[1].factors == (2, 2)
    window = pyramid.window(y=slice(0, 102), x=slice(0, 102), scale=0.5)
    assert np.array_equal(window.values[:50, :50], half)
    assert np.array_equal(window.values[50], np.append(half[49], half[49, 49])), "the border is repeated, not made up"
    assert same(pyramid.window().values, full)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_windows_are_not_read_from_levels_that_also_shrink_another_axis(tmp_path, zarr_format):
    volume = random_array((20, 64, 64), "u2")
    pyramid = pyramid_of(tmp_path / "a", [volume, volume[::2, ::2, ::2]], "zyx", [(1, 1, 1), (2, 2, 2)], zarr_format)
    window = pyramid.window(scale=0.5)
    assert window.shape == (20, 32, 32)
    wanted = volume.reshape(20, 32, 2, 32, 2).mean(axis=(2, 4))
    assert np.abs(window.values - wanted).max() <= 0.5
    assert pyramid.to_xarray(1).shape == (10, 32, 32)


@pytest.mark.parametrize(
    ("shape", "axes", "dims", "order"),
    [
        ((4, 5), None, "yx", (0, 1)),
        ((4, 5, 3), None, "cyx", (2, 0, 1)),
        ((4, 5, 6), None, "cyx", (0, 1, 2)),
        ((4, 5, 6), "tyx", "tyx", (0, 1, 2)),
        ((4, 5, 6, 2), "xyzt", "tzyx", (3, 2, 1, 0)),
    ],
)
def test_arrays_without_names_get_them_by_the_same_rule_as_when_transcoded(tmp_path, shape, axes, dims, order):
    written = zarr.create_array(tmp_path / "a", shape=shape, chunks=(2,) * len(shape), dtype="u2")
    written[...] = array = random_array(shape, "u2")
    pyramid = ndzarr.open(tmp_path / "a", axes=axes)
    want = array.transpose(order)
    assert pyramid.dims == tuple(dims)
    assert same(pyramid.read(), want)
    assert same(pyramid.read(y=[3, 1, 1], x=slice(1, None, 2)), want[..., [3, 1, 1], 1::2])
    assert same(pickle.loads(pickle.dumps(pyramid)).read(), want)
    made = ndzarr.transcode(tmp_path / "a", tmp_path / "b.zarr", axes=axes)
    assert same(made.read().squeeze(), want.squeeze())


def test_more_than_three_axes_without_names_have_to_be_named_to_open_and_to_transcode(tmp_path):
    zarr.create_array(tmp_path / "a", shape=(2, 3, 4, 5), dtype="u1")
    with raises(StoreError, path=tmp_path / "a", key="axes", hint="axes='tcyx'"):
        ndzarr.open(tmp_path / "a")
    with raises(SourceError, path=tmp_path / "a", key="axes", hint="axes='tcyx'"):
        ndzarr.transcode(tmp_path / "a", tmp_path / "b.zarr")
    with raises(OptionError, key="axes"):
        ndzarr.open(tmp_path / "a", axes="yx")


def test_names_of_latitudes_and_longitudes_are_y_and_x(tmp_path):
    named = zarr.create_array(tmp_path / "named", shape=(2, 3), dtype="u1", dimension_names=("lat", "lon"))
    assert same(ndzarr.open(tmp_path / "named").read(x=slice(1, 3)), named[:, 1:])


def test_chunks_that_another_writer_changed_in_place_are_seen_when_opened_again(tmp_path):
    written = zarr.create_array(tmp_path / "a", shape=(64, 64), chunks=(16, 16), shards=(32, 32), dtype="u1")
    written[:32, :32] = 1
    assert ndzarr.open(tmp_path / "a").read().sum() == 32 * 32
    written[...] = 2
    assert same(ndzarr.open(tmp_path / "a").read(), np.full((64, 64), 2, "u1"))


CUTS = {
    "none": (),
    "zstd": (zc.ZstdCodec(level=1),),
    "blosc": (zc.BloscCodec(cname="lz4", shuffle="bitshuffle"),),
    "crc32c": (zc.Crc32cCodec(),),
    "gzip": (zc.GzipCodec(),),
}


@pytest.mark.parametrize("codec", sorted(CUTS))
@pytest.mark.parametrize("keep", [0, 1, 3, 7, 15, 16, 17, 100, -1])
def test_a_truncated_chunk_without_checksum_is_damage_not_pixels(tmp_path, codec, keep):
    array = random_array((32, 32), "u1")
    written = zarr.create_array(tmp_path / "a", shape=(32, 32), chunks=(32, 32), dtype="u1", compressors=CUTS[codec])
    written[...] = array
    file = tmp_path / "a" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[:keep])
    with raises(DamagedError, path=tmp_path / "a" / "c" / "0" / "0"):
        ndzarr.open(tmp_path / "a").read()


@pytest.mark.parametrize("codec", sorted(CUTS))
@pytest.mark.parametrize("other", [(1, 1), (16, 32), (33, 32)])
def test_a_chunk_of_another_size_is_damage_not_pixels(tmp_path, codec, other):
    for name, shape in (("a", (32, 32)), ("b", other)):
        written = zarr.create_array(tmp_path / name, shape=shape, chunks=shape, dtype="u1", compressors=CUTS[codec])
        written[...] = random_array(shape, "u1")
    (tmp_path / "b" / "c" / "0" / "0").rename(tmp_path / "a" / "c" / "0" / "0")
    with raises(DamagedError, path=tmp_path / "a" / "c" / "0" / "0"):
        ndzarr.open(tmp_path / "a").read()


def test_zstd_frames_that_do_not_say_their_size_are_read(tmp_path):
    array = random_array((32, 32), "u2")
    written = zarr.create_array(tmp_path / "a", shape=(32, 32), chunks=(32, 32), dtype="u2", compressors=zc.ZstdCodec())
    written[...] = array
    raw = array.tobytes()  # as one raw block that is the last, in a frame without flags and with a window of 2 MiB
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + (len(raw) << 3 | 1).to_bytes(3, "little") + raw
    (tmp_path / "a" / "c" / "0" / "0").write_bytes(frame)
    assert same(read_with_zarr(tmp_path / "a"), array)
    assert same(ndzarr.open(tmp_path / "a").read(), array)
    (tmp_path / "a" / "c" / "0" / "0").write_bytes(frame[:6] + (8 << 3 | 1).to_bytes(3, "little") + raw[:8])
    with raises(DamagedError, path=tmp_path / "a" / "c" / "0" / "0", match="8 bytes instead of 2048"):
        ndzarr.open(tmp_path / "a").read()


def test_a_group_of_a_later_schema_is_refused(tmp_path):
    group = zarr.open_group(tmp_path / "a", mode="w")
    group.attrs["ndzarr"] = {"schema": 99}
    with raises(StoreError, path=tmp_path / "a", hint="Upgrade ndzarr"):
        ndzarr.open(tmp_path / "a")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b'{"node_type": "array"}', b'{"node_type": "group"}']
)
def test_metadata_that_are_none_are_said_to_be(tmp_path, content):
    (tmp_path / "zarr.json").write_bytes(content)
    with raises(StoreError, path=tmp_path):
        ndzarr.open(tmp_path)


def test_what_is_no_store_is_refused_with_what_to_do(tmp_path):
    with raises(MissingError, path=tmp_path / "nothing"):
        ndzarr.open(tmp_path / "nothing")
    with raises(StoreError, path=tmp_path, hint="Make one from images with ndzarr.transcode"):
        ndzarr.open(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "photo.png")
    with raises(StoreError, path=tmp_path / "photo.png", hint="ndzarr.transcode('photo.png'"):
        ndzarr.open(tmp_path / "photo.png")
    zarr.create_array(tmp_path / "scalar", shape=(), dtype="u1")
    with raises(StoreError, path=tmp_path / "scalar", match="two axes of an image"):
        ndzarr.open(tmp_path / "scalar")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zarr.open_group(tmp_path / "group", mode="w").create_array("a", shape=(2,), dtype="u1")
    with raises(StoreError, path=tmp_path / "group", hint="Pass the path of a group"):
        ndzarr.open(tmp_path / "group")
