"""OME-Zarr groups that hold several images: series, plates and labels, and their images as sources."""

import json
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import ndzarr
from helpers.arrays import random_array
from helpers.errors import raises
from ndzarr.cli import main
from ndzarr.errors import OptionError, StoreError, TargetError

XML = """<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Image ID="Image:0" Name="overview"/><Image ID="Image:1" Name="detail"/></OME>"""


def attributes(version, **ome):
    return {"ome": {"version": "0.5", **ome}} if version == 3 else ome


def image(group, path, pixels, version, name="image", **more):
    """Write an image of two levels with axes c, y, x, its pixels 0.5 by 0.25 um large."""
    inner = group.create_group(path)
    datasets = []
    for k in range(2):
        level = pixels[:, :: 2**k, :: 2**k]
        inner.create_array(str(k), shape=level.shape, dtype=level.dtype, chunks=(1, 64, 64))[...] = level
        steps = [
            {"type": "scale", "scale": [1, 0.5 * 2**k, 0.25 * 2**k]},
            {"type": "translation", "translation": [0, 10, 20]},
        ]
        datasets.append({"path": str(k), "coordinateTransformations": steps})
    axes = [{"name": "c", "type": "channel"}, *({"name": d, "type": "space", "unit": "micrometer"} for d in "yx")]
    multiscales = [{"version": "0.4", "name": name, "axes": axes, "datasets": datasets}]
    inner.attrs.update(attributes(version, multiscales=multiscales, **more))
    return inner


@pytest.fixture(params=[2, 3])
def version(request):
    return request.param


@pytest.fixture
def plate(tmp_path, version):
    """A plate of two wells with two fields and one, and their pixels by name."""
    root = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=version)
    pixels = {name: random_array((2, 12, 20), "u2", k) for k, name in enumerate(("A/01/0", "A/01/1", "B/03/0"))}
    wells = [{"path": "A/01", "rowIndex": 0, "columnIndex": 0}, {"path": "B/03", "rowIndex": 1, "columnIndex": 1}]
    rows, columns = [{"name": "A"}, {"name": "B"}], [{"name": "01"}, {"name": "03"}]
    root.attrs.update(attributes(version, plate={"rows": rows, "columns": columns, "wells": wells}))
    for well in wells:
        fields = [name[-1] for name in pixels if name.startswith(well["path"])]
        group = root.create_group(well["path"])
        group.attrs.update(attributes(version, well={"images": [{"path": f, "acquisition": 7} for f in fields]}))
    for name, array in pixels.items():
        image(root, name, array, version)
    return tmp_path / "plate.zarr", pixels


def test_the_fields_of_a_plate_are_named_sources(plate):
    path, pixels = plate
    sampler = ndzarr.Sampler(path)
    assert list(sampler.sources) == list(pixels)
    for name, array in pixels.items():
        sample = sampler.load_sample(key=name, cx=10, cy=6, width=20, height=12)
        assert np.array_equal(sample.image, array)
        assert np.array_equal(ndzarr.open(path, series=name).read(), array)
    table = sampler.targets.grid((12, 20))
    assert table["key"].tolist() == list(pixels)
    assert table["note_row"].tolist() == ["A", "A", "B"]
    assert table["note_column"].tolist() == ["01", "01", "03"]
    assert table["note_well"].tolist() == ["A/01", "A/01", "B/03"]
    assert table["note_field"].tolist() == ["0", "1", "0"]
    assert set(table["note_acquisition"]) == {7}
    batch = sampler.load_batch(table)
    assert np.array_equal(batch.image, np.stack(list(pixels.values())))


@pytest.mark.parametrize("place", ["zip", "http", "http, zip"])
def test_plates_and_label_images_are_found_in_zips_and_on_servers(plate, version, http, place):
    path, pixels = plate
    cells = np.arange(240, dtype="u2").reshape(1, 12, 20)
    labels = zarr.open_group(path / "B" / "03" / "0", mode="a", zarr_format=version).create_group("labels")
    labels.attrs.update(attributes(version, labels=["cells"]))
    image(labels, "cells", cells, version)
    name = "plate.zarr"
    if "zip" in place:
        name = "plate.ozx" if version == 3 else "plate.zip"
        with zipfile.ZipFile(path.parent / name, "w") as file:
            for inner in sorted(p for p in path.rglob("*") if p.is_file()):
                file.write(inner, inner.relative_to(path).as_posix())
    source = f"{http.url}/{name}" if "http" in place else path.parent / name
    if "http" in place:
        shutil.move(path.parent / name, http.folder / name)
    assert np.array_equal(ndzarr.open(source, series="A/01/1").read(), pixels["A/01/1"])
    with raises(StoreError, path=source, key="series", match="holds 3 images: 'A/01/0', 'A/01/1', 'B/03/0'"):
        ndzarr.open(source)
    sampler = ndzarr.Sampler(source)
    assert list(sampler.sources) == list(pixels)
    opened = sampler.open("B/03/0")
    assert np.array_equal(pickle.loads(pickle.dumps(opened)).read(), pixels["B/03/0"])
    sample = sampler.load_sample(key="B/03/0", cx=10, cy=6, width=20, height=12, channels="c1|cells")
    assert np.array_equal(sample.image, [pixels["B/03/0"][1], cells[0]])
    if place == "zip":
        dataset = ndzarr.dataset(source, format="ome-zarr")
        assert [dataset.imgs[3]["well"], dataset.imgs[3]["assets"][0]["channels"]] == ["B/03", "cells"]
        assert len(dataset.anns) == 239
        assert np.array_equal(ndzarr.CocoSampler(dataset).load_sample(gid=3, channels="cells").image, cells)


def test_the_advice_for_a_group_of_several_images_opens_one(plate):
    path, pixels = plate
    with raises(StoreError, path=path, key="series") as caught:
        ndzarr.open(path)
    advised = caught.value.hint.split("series=")[1].split("'")[1]
    assert np.array_equal(ndzarr.open(path, series=advised).read(), pixels[advised])
    assert np.array_equal(ndzarr.open(path / "A" / "01", series=1).read(), pixels["A/01/1"])
    assert np.array_equal(ndzarr.open(path / "B" / "03").read(), pixels["B/03/0"])
    assert ndzarr.verify(path).ok
    assert ndzarr.verify(path).chunks == 12
    listed = CliRunner().invoke(main, ["info", str(path)])
    assert listed.exit_code == 0
    assert all(repr(name) in listed.stdout for name in pixels)
    one = CliRunner().invoke(main, ["info", "--json", "--series", advised, str(path)])
    assert json.loads(one.stdout)[0]["channels"] == ["c0", "c1"]
    with raises(OptionError, path=path, key="series"):
        ndzarr.open(path, series="C/01/0")
    with raises(OptionError, path=path / "B" / "03" / "0", key="series"):
        ndzarr.open(path / "B" / "03" / "0", series=1)


@pytest.mark.parametrize("stated", [False, True])
def test_series_of_bioformats2raw_are_chosen_by_name_or_number(tmp_path, version, stated):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    root.attrs.update(attributes(version, **{"bioformats2raw.layout": 3}))
    pixels = [random_array((2, 12, 20), "u2", k) for k in range(2)]
    for k, array in enumerate(pixels):
        image(root, str(k), array, version)
    names = ["0", "1"]
    if stated:
        root.create_group("OME").attrs.update(attributes(version, series=["0", "1"]))
        (tmp_path / "a.zarr" / "OME" / "METADATA.ome.xml").write_text(XML)
        names = ["overview", "detail"]
    with raises(StoreError, path=tmp_path / "a.zarr", key="series", match=", ".join(map(repr, names))):
        ndzarr.open(tmp_path / "a.zarr")
    for k, name in enumerate(names):
        assert np.array_equal(ndzarr.open(tmp_path / "a.zarr", series=k).read(), pixels[k])
        made = ndzarr.transcode(tmp_path / "a.zarr", tmp_path / f"{k}.zarr", series=name)
        assert np.array_equal(made.read(), pixels[k])
    assert list(ndzarr.Sampler(tmp_path / "a.zarr").sources) == names


def test_a_group_of_one_image_is_that_image(tmp_path, version):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    root.attrs.update(attributes(version, **{"bioformats2raw.layout": 3}))
    pixels = random_array((2, 12, 20), "u2")
    image(root, "0", pixels, version)
    assert np.array_equal(ndzarr.open(tmp_path / "a.zarr").read(), pixels)


def in_0_6(attrs):
    """Rewrite the attributes of an image in the words of OME-Zarr 0.6."""
    [image] = attrs["ome"]["multiscales"]
    axes = image.pop("axes")
    image["coordinateSystems"] = [{"name": "array", "axes": []}, {"name": "physical", "axes": axes}]
    for dataset in image["datasets"]:
        steps = dataset["coordinateTransformations"]
        sequence = {"type": "sequence", "input": dataset["path"], "output": "physical", "transformations": steps}
        dataset["coordinateTransformations"] = [sequence]
    nanometers = {"type": "scale", "scale": [1, 1000, 1000], "input": "physical", "output": "array"}
    image["coordinateTransformations"] = [nanometers]  # of the axes, not of pixels
    return {"ome": {**attrs["ome"], "version": "0.6"}}


@pytest.mark.parametrize("form", ["0.4", "0.5", "0.6", "opened", "remote"])
def test_images_of_ome_zarr_are_transcoded_with_what_they_say(tmp_path, http, form):
    version = 2 if form == "0.4" else 3
    pixels = random_array((2, 140, 270), "u2")
    window = {"min": 0, "max": 4095, "start": 10, "end": 2000}
    channels = [{"label": name, "color": colour, "window": window, "active": True}
                for name, colour in (("DAPI", "0000FF"), ("GFP", "00FF00"))]  # fmt: skip
    path = http.folder / "a.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=version)
    group = image(root, "inner", pixels, version, omero={"channels": channels, "rdefs": {"model": "color"}})
    if form == "0.6":
        group.attrs.update(in_0_6(dict(group.attrs)))
    source = f"{http.url}/a.zarr/inner" if form == "remote" else path / "inner"
    opened = ndzarr.open(source)
    made = ndzarr.transcode(opened if form == "opened" else source, tmp_path / "made.zarr")
    for pyramid in (opened, made, ndzarr.transcode(made, tmp_path / "again.zarr")):
        assert np.array_equal(pyramid.read(), pixels)
        assert pyramid.channels == ("DAPI", "GFP")
        assert (pyramid.pixel_size.y.value, pyramid.pixel_size.x.value, pyramid.pixel_size.x.unit) == (
            *(0.5, 0.25), "micrometer"
        )  # fmt: skip
    for attrs in (made.attrs, pyramid.attrs):
        first, second = (d["coordinateTransformations"] for d in attrs["ome"]["multiscales"][0]["datasets"])
        assert [step["scale"] for step in (first[0], second[0])] == [[1, 0.5, 0.25], [1, 1, 0.5]]
        assert [step["translation"] for step in (first[1], second[1])] == [[0, 10, 20], [0, 10.25, 20.125]]
        assert attrs["ome"]["omero"] == {"channels": channels, "rdefs": {"model": "color"}}


def test_labels_are_found_beside_their_image_and_stay_labels(tmp_path, version):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    inner = image(root, "inner", random_array((2, 12, 20), "u2"), version)
    cells = np.repeat(np.arange(12, dtype="i4")[None, :, None], 20, axis=2)
    labels = inner.create_group("labels")
    labels.attrs.update(attributes(version, labels=["cells"]))
    image(labels, "cells", cells, version, **{"image-label": {"source": {"image": "../../"}}})
    opened = ndzarr.open(tmp_path / "a.zarr" / "inner" / "labels")
    made = ndzarr.transcode(tmp_path / "a.zarr" / "inner" / "labels", tmp_path / "made.zarr", series="cells")
    for pyramid in (opened, made):
        assert pyramid.kind == "labels"
        assert np.array_equal(pyramid.read(), cells)
    assert "image-label" in made.attrs["ome"]


def test_labels_of_ome_zarr_become_annotations_of_its_images(plate, version):
    path, pixels = plate
    cells = np.zeros((1, 12, 20), "u2")
    cells[0, 2:5, 3:9], cells[0, 6:12, 10:11] = 7, 9
    labels = zarr.open_group(path / "B" / "03" / "0", mode="a", zarr_format=version).create_group("labels")
    labels.attrs.update(attributes(version, labels=["cells"]))
    image(labels, "cells", cells, version, **{"image-label": {}})
    fine = np.zeros((2, 24, 40), "u2")
    fine[:, 10:20, 2:30] = 3
    image(labels, "tissue", fine, version)  # without image-label; twice as fine, and of two channels
    labels.attrs.update(attributes(version, labels=["cells", "tissue"]))
    dataset = ndzarr.dataset(path)
    assert [found["well"] for found in dataset.imgs.values()] == ["A/01", "A/01", "B/03"]
    assert [(ann["image_id"], ann["track_id"], ann["bbox"]) for ann in dataset.anns.values()] == [
        (3, 7, [3, 2, 6, 3]),
        (3, 9, [10, 6, 1, 6]),
    ]
    assert dataset.cats[1]["name"] == "cells"
    sample = ndzarr.CocoSampler(dataset).load_sample({"gid": 3, "cx": 10, "cy": 6, "width": 20, "height": 12})
    assert np.array_equal(sample.image, pixels["B/03/0"])
    assert np.array_equal(sample.ndzarr.masks, [cells[0] == 7, cells[0] == 9])
    assert dataset.dataset["info"][-1]["left_out"] == {
        "objects of label images of volumes, videos or several channels": 1
    }
    whole = {"cx": 10, "cy": 6, "width": 20, "height": 12}
    for sampler, key in ((ndzarr.CocoSampler(dataset), {"gid": 3}), (ndzarr.Sampler(path), {"key": "B/03/0"})):
        assert np.array_equal(sampler.load_sample(whole | key).image, pixels["B/03/0"])
        sample = sampler.load_sample(whole | key | {"channels": "cells|tissue_1|c0"})
        assert np.array_equal(sample.image, np.stack([cells[0], fine[1, ::2, ::2], pixels["B/03/0"][0]]))
        larger = sampler.load_sample(whole | key | {"channels": "cells", "output_dims": (36, 60)})
        assert np.array_equal(larger.image[0], cells[0].repeat(3, 0).repeat(3, 1))
        with raises(TargetError, key="channels"):
            sampler.load_sample(whole | key | {"channels": "nuclei"})
    named = ndzarr.dataset(path, names={7: "nucleus"})
    assert [named.cats[ann["category_id"]]["name"] for ann in named.anns.values()] == ["nucleus", "9"]
