"""Labels in other forms than kwcoco's become datasets that a sampler takes."""

import json

import kwcoco
import numpy as np
import PIL.Image
import pytest
import rasterio
import rasterio.features
from pycocotools import mask as coco_masks

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from helpers.georeferences import NORTH_UP
from ndzarr.errors import MissingError, OptionError, SourceError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own


def write_images(folder, *names, size=(60, 80)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        PIL.Image.fromarray(photo(*size)).save(folder / name)


def boxes(dset):
    """{image name: [(category, box rounded to thousandths)]}."""
    out = {image["name"]: [] for image in dset.imgs.values()}
    for annotation in dset.anns.values():
        box = tuple(round(v, 3) for v in annotation["bbox"])
        out[dset.imgs[annotation["image_id"]]["name"]].append((dset.cats[annotation["category_id"]]["name"], box))
    return out


def left_out(dset):
    return dset.dataset["info"][-1]["left_out"]


@pytest.fixture
def yolo(tmp_path):
    root = tmp_path / "yolo"
    write_images(root / "images" / "train", "a.png", "b.png")
    write_images(root / "images" / "val", "c.png")
    for split in ("train", "val"):
        (root / "labels" / split).mkdir(parents=True)
    (root / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n\n1 0 0 0.5 0 0.5 0.5\n")
    (root / "labels" / "val" / "c.txt").write_text("1 0.1 0.1 0.2 0.2 0.9\n0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5")
    about = "path: /somewhere/else\ntrain: images/train\nval: images/val\nnames:\n  0: boat\n  1: car\n"
    (root / "data.yaml").write_text(about)
    return root


@pytest.mark.parametrize("labels", ["yolo", "yolo/data.yaml"])
def test_yolo_boxes_segments_and_oriented_boxes(yolo, labels):
    dset = ndzarr.dataset(yolo.parent / labels)
    assert boxes(dset) == {
        "a": [("boat", (30, 15, 20, 30)), ("car", (0, 0, 40, 30))],
        "b": [],
        "c": [("car", (0, 0, 16, 12)), ("boat", (8, 6, 32, 24))],
    }
    assert [image["split"] for image in dset.imgs.values()] == ["train", "train", "val"]
    assert dset.anns[2]["segmentation"] == [[0, 0, 40, 0, 40, 30]]
    assert dset.anns[3]["score"] == 0.9


def test_yolo_poses(tmp_path):
    write_images(tmp_path / "set", "a.png")
    (tmp_path / "set" / "data.yaml").write_text("names: [person]\nkpt_shape: [2, 3]\n")
    (tmp_path / "set" / "a.txt").write_text("0 0.5 0.5 0.5 0.5 0.25 0.5 2 0 0 0")
    dset = ndzarr.dataset(tmp_path / "set")
    assert dset.anns[1]["keypoints"] == [20, 30, 2, 0, 0, 0]


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.1", "0 0.5 0.5 0.1 x", "7 0.5 0.5 0.1 0.1", "0.5 0.5 0.5 0.1 0.1", "0 0.5 nan 0.1 0.1"]
)
def test_a_line_that_is_not_understood_is_named(yolo, line):
    file = yolo / "labels" / "train" / "a.txt"
    file.write_text(f"0 0.5 0.5 0.25 0.5\n{line}\n")
    with raises(SourceError, path=file, match="line 2"):
        ndzarr.dataset(yolo)


VOC = """<annotation><filename>{name}</filename><object><name>dog</name><difficult>1</difficult><bndbox><xmin>11</xmin>
<ymin>21</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object><object><name>cat</name></object></annotation>"""


def test_voc_counts_from_one(tmp_path):
    write_images(tmp_path / "JPEGImages", "a.jpg")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(VOC.format(name="a.jpg"))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    dset = ndzarr.dataset(tmp_path / "Annotations")
    assert boxes(dset) == {"a": [("dog", (10, 20, 20, 20))]}
    assert dset.anns[1]["difficult"] == 1
    assert dset.imgs[1]["split"] == "val"
    assert left_out(dset) == {"objects without a box": 1}


@pytest.mark.parametrize(
    "text", ["<annotation>", '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', VOC.format(name="z.jpg")]
)
def test_voc_that_is_not_understood_is_named(tmp_path, text):
    write_images(tmp_path / "in", "a.jpg")
    (tmp_path / "in" / "b.xml").write_text(text)
    with raises(SourceError, path=tmp_path / "in" / "b.xml"):
        ndzarr.dataset(tmp_path / "in")


def test_dota_has_four_corners(tmp_path):
    write_images(tmp_path / "images", "P1.png")
    (tmp_path / "labelTxt").mkdir()
    text = "imagesource:GoogleEarth\ngsd:0.15\n10 5 30 5 30 25 10 25 large-vehicle 0\n"
    (tmp_path / "labelTxt" / "P1.txt").write_text(text)
    dset = ndzarr.dataset(tmp_path / "labelTxt", images=tmp_path / "images")
    assert boxes(dset) == {"P1": [("large-vehicle", (10, 5, 20, 20))]}
    assert dset.imgs[1]["gsd"] == "0.15"


def test_mot_sequences_are_videos_with_tracks(tmp_path):
    write_images(tmp_path / "MOT-02" / "img1", "000001.jpg", "000002.jpg")
    (tmp_path / "MOT-02" / "gt").mkdir()
    (tmp_path / "MOT-02" / "seqinfo.ini").write_text("[Sequence]\nname=MOT-02\nimDir=img1\nframeRate=25\n")
    rows = "1,7,11,21,10,20,1,1,0.5\n2,7,12,21,10,20,1,1,1\n2,8,1,1,5,5,0,8,1\n"
    (tmp_path / "MOT-02" / "gt" / "gt.txt").write_text(rows)
    dset = ndzarr.dataset(tmp_path)
    assert boxes(dset) == {
        "000001": [("pedestrian", (10, 20, 10, 20))],
        "000002": [("pedestrian", (11, 20, 10, 20)), ("distractor", (0, 0, 5, 5))],
    }
    assert [a.get("track_id") for a in dset.anns.values()] == [7, 7, 8]
    assert [a.get("ignore", 0) for a in dset.anns.values()] == [0, 0, 1]
    sample = ndzarr.CocoSampler(dset, tmp_path / "work").load_sample(
        {"vidid": 1, "cx": 20, "cy": 30, "width": 20, "height": 20}
    )
    assert sample.sizes["t"] == 2
    assert sample.track_id.values.tolist() == [7, 7]


@pytest.fixture
def scene(tmp_path):
    """A georeferenced scene of 60 x 80 pixels of 10 m."""
    path = tmp_path / "scenes" / "scene.tif"
    path.parent.mkdir()
    profile = {"driver": "GTiff", "height": 60, "width": 80, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, crs="EPSG:32633", transform=NORTH_UP) as out:
        out.write(photo(60, 80)[..., 0], 1)
    return path


def feature(geometry, **properties):
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def ring(x, y, w, h):
    return [[x, y], [x + w, y], [x + w, y + h], [x, y + h], [x, y]]


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326", "EPSG:3857"])
def test_features_lie_where_rasterio_puts_them(scene, tmp_path, crs):
    from rasterio.warp import transform_geom

    holed = {"type": "Polygon", "coordinates": [ring(500100, 4599700, 300, 200), ring(500150, 4599750, 100, 100)]}
    two = {"type": "MultiPolygon", "coordinates": [[ring(500500, 4599800, 50, 50)], [ring(500700, 4599500, 500, 90)]]}
    far = {"type": "Polygon", "coordinates": [ring(900000, 4599700, 300, 200)]}
    features = [
        {
            "type": "Feature",
            "properties": {"class": name, "height": 3.5},
            "geometry": transform_geom("EPSG:32633", crs, g),
        }
        for name, g in (("pond", holed), ("field", two), ("far", far))
    ]
    features.append({"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [0, 0]}})
    named = {} if crs == "EPSG:4326" else {"crs": {"type": "name", "properties": {"name": crs}}}
    labels = tmp_path / "labels.geojson"
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": features, **named}))
    dset = ndzarr.dataset(labels, images=scene.parent)
    assert left_out(dset) == {"features whose geometry is Point": 1, "features outside of all images": 1}
    assert [dset.cats[a["category_id"]]["name"] for a in dset.anns.values()] == ["pond", "field"]
    assert dset.anns[1]["height"] == 3.5
    sample = ndzarr.CocoSampler(dset, tmp_path / "work").load_sample({"gid": 1})
    expected = [rasterio.features.geometry_mask([g], (60, 80), NORTH_UP, invert=True) for g in (holed, two)]
    assert np.array_equal(sample.ndzarr.masks, expected)


def test_features_need_a_georeference(tmp_path):
    write_images(tmp_path / "in", "a.png")
    square = feature({"type": "Polygon", "coordinates": [ring(0, 0, 1, 1)]})
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [square]}))
    with raises(SourceError, path=tmp_path / "a.geojson", key="images", hint="qupath"):
        ndzarr.dataset(tmp_path / "a.geojson", images=tmp_path / "in")


def test_qupath_counts_pixels(tmp_path):
    write_images(tmp_path / "slides", "a.png")
    properties = {"objectType": "annotation", "classification": {"name": "Tumor", "color": [200, 0, 0]}}
    cells = [feature({"type": "Polygon", "coordinates": [ring(5, 6, 7, 8)]}, **properties)]
    (tmp_path / "a.geojson").write_text(json.dumps(cells))
    dset = ndzarr.dataset(tmp_path / "a.geojson", images=tmp_path / "slides")
    assert boxes(dset) == {"a": [("Tumor", (5, 6, 7, 8))]}


@pytest.mark.parametrize("kind", ["masks", "instances"])
def test_masks_are_classes_or_objects(tmp_path, kind):
    write_images(tmp_path / "images", "a.png")
    values = np.random.default_rng(0).integers(0, 4, (60, 80)).astype("u1")
    (tmp_path / "masks").mkdir()
    PIL.Image.fromarray(values).save(tmp_path / "masks" / "a_mask.png")
    dset = ndzarr.dataset(tmp_path / "masks", images=tmp_path / "images", format=kind, names={1: "tree", 2: "road"})
    found = [a["segmentation"] for a in dset.anns.values()]
    for value, counts in enumerate(found, 1):
        packed = coco_masks.frPyObjects(counts, *counts["size"])
        assert np.array_equal(coco_masks.decode(packed), values == value)
    names = [dset.cats[a["category_id"]]["name"] for a in dset.anns.values()]
    assert names == (["tree", "road", "3"] if kind == "masks" else ["object"] * 3)


def test_directories_are_classes(tmp_path):
    for split, name in (("train", "cat"), ("train", "dog"), ("val", "cat")):
        write_images(tmp_path / split / name, f"{name}.png")
    dset = ndzarr.dataset(tmp_path, format="classes")
    assert sorted(n for found in boxes(dset).values() for n, _ in found) == ["cat", "cat", "dog"]
    assert sorted(image["split"] for image in dset.imgs.values()) == ["train", "train", "val"]
    assert len({image["name"] for image in dset.imgs.values()}) == 3


def stac_item(name, day, assets, **properties):
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": None,
        "properties": {"datetime": f"2021-05-{day:02}T00:00:00Z", "platform": "s2", **properties},
        "assets": assets,
    }


def test_stac_items_become_a_time_series_in_place(scene, tmp_path):
    half = tmp_path / "half.tif"
    moved = rasterio.Affine(20, 0, NORTH_UP.c + 100, 0, -20, NORTH_UP.f)
    profile = {"driver": "GTiff", "height": 30, "width": 40, "count": 1, "dtype": "uint8"}
    with rasterio.open(half, "w", **profile, crs="EPSG:32633", transform=moved) as out:
        out.write(photo(30, 40)[..., 0], 1)
    media = {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"]}
    red = {"href": str(scene), **media, "eo:bands": [{"name": "red"}]}
    swir = {
        "href": "half.tif",
        **media,
        "bands": [{"name": "swir"}],
        "proj:shape": [30, 40],
        "proj:transform": list(moved)[:6],
    }
    thumbnail = {"href": "t.png", "type": "image/png", "roles": ["thumbnail"]}
    items = [
        stac_item("b", 9, {"red": red, "t": thumbnail}),
        stac_item("a", 1, {"red": red, "swir": swir | {"proj:code": "EPSG:32633"}}),
    ]
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    dset = ndzarr.dataset(tmp_path / "items.json", series=True)
    sampler = ndzarr.CocoSampler(dset, tmp_path / "work")
    assert [dset.imgs[g]["name"] for g in dset.index.vidid_to_gids[1]] == ["a", "b"]
    sample = sampler.load_sample({"vidid": 1, "channels": "red|swir"})
    assert sample.image.sizes == {"t": 2, "c": 2, "y": 60, "x": 80}
    assert np.array_equal(sample.image.values[0, 0], photo(60, 80)[..., 0])
    assert sample.valid.values[0, 1].any(axis=0).tolist() == [False] * 10 + [True] * 70
    assert str(sample.t.values[0])[:10] == "2021-05-01"


def test_images_of_two_reference_systems_are_no_series(scene, tmp_path):
    profile = {"driver": "GTiff", "height": 60, "width": 80, "count": 1, "dtype": "uint8"}
    with rasterio.open(scene.with_name("b.tif"), "w", **profile, crs="EPSG:32634", transform=NORTH_UP) as out:
        out.write(photo(60, 80)[..., 0], 1)
    with raises(SourceError, key="series"):
        ndzarr.dataset(scene.parent, series=True)


def test_coco_is_read_by_kwcoco(tmp_path):
    write_images(tmp_path / "in", "a.png")
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "in/a.png"}], "annotations": [], "categories": []}))
    assert ndzarr.dataset(path).imgs == kwcoco.CocoDataset(str(path)).imgs


def test_what_is_not_there_or_not_known_is_an_error(tmp_path):
    with raises(MissingError, path=tmp_path / "no"):
        ndzarr.dataset(tmp_path / "no", format="yolo")
    with raises(OptionError, key="format"):
        ndzarr.dataset(tmp_path, format="yollo")
    (tmp_path / "a.doc").write_text("")
    with raises(SourceError, path=tmp_path / "a.doc", hint="format="):
        ndzarr.dataset(tmp_path / "a.doc")


def test_samplers_and_the_command_line_take_labels(yolo, tmp_path):
    from click.testing import CliRunner

    from ndzarr.cli import main

    dest = tmp_path / "data.kwcoco.json"
    result = CliRunner().invoke(main, ["dataset", str(yolo), "-o", str(dest)])
    assert (result.exit_code, result.output) == (0, f"wrote {dest}: 3 images, 4 annotations, 2 categories\n")
    target = {"gid": 1, "cx": 40, "cy": 30, "width": 80, "height": 60}
    samples = [ndzarr.CocoSampler(d, tmp_path / "work").load_sample(target) for d in (yolo, dest)]
    assert samples[0].bbox.values.tolist() == [[30, 15, 20, 30], [0, 0, 40, 30]]
    assert samples[0].identical(samples[1])


@pytest.mark.parametrize(
    "geometry", [7, {"type": "Polygon", "coordinates": [1, 2]}, {"type": "Polygon", "coordinates": [[[1], [2], [3]]]}]
)
def test_features_that_are_not_understood_are_named(scene, tmp_path, geometry):
    labels = tmp_path / "a.geojson"
    labels.write_text(json.dumps({"type": "FeatureCollection", "features": [feature(geometry)]}))
    with raises(SourceError, path=labels):
        ndzarr.dataset(labels, images=scene)


@pytest.mark.parametrize("assets", [[], {"red": 7}])
def test_items_that_are_not_understood_are_named(tmp_path, assets):
    labels = tmp_path / "item.json"
    labels.write_text(json.dumps(stac_item("a", 1, assets)))
    with raises(SourceError, path=labels):
        ndzarr.dataset(labels)


@pytest.mark.parametrize("shape", ["7", "[2, 5]", "[a, 2]"])
def test_a_shape_of_keypoints_that_is_not_understood_is_named(yolo, shape):
    with open(yolo / "data.yaml", "a") as file:
        file.write(f"kpt_shape: {shape}\n")
    with raises(SourceError, path=yolo):
        ndzarr.dataset(yolo)


def test_file_names_give_images_their_date_sensor_and_other_keys(tmp_path):
    for name in ("S2_20240501_a.png", "L8_20240511_b.png"):
        PIL.Image.fromarray(np.zeros((8, 9, 3), "u1")).save(tmp_path / name)
    pattern = r"(?P<sensor>\w+?)_(?P<date>\d{8})_(?P<tile>\w)"
    dset = ndzarr.dataset(tmp_path, format="images", filename_regex=pattern)
    found = {(i["sensor_coarse"], i["date_captured"], i["tile"]) for i in dset.images().objs}
    assert found == {("S2", "20240501", "a"), ("L8", "20240511", "b")}
    with raises(SourceError, key="filename_regex", match="20240511_b"):
        ndzarr.dataset(tmp_path, format="images", filename_regex=r"(?P<sensor>S2)")
    for wrong in ("(", r"\d{8}"):
        with raises(OptionError, key="filename_regex"):
            ndzarr.dataset(tmp_path, format="images", filename_regex=wrong)
