"""Labels as people really have them: what is not understood is named with its file and line, the rest is counted."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import PIL.Image
import pytest
import rasterio
import shapely

import ndzarr
from helpers.arrays import photo
from helpers.errors import raises
from ndzarr.errors import SourceError


def write_image(path, size=(60, 80)):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(photo(*size)).save(path)


def left_out(dset):
    return dset.dataset["info"][-1]["left_out"]


def found(dset):
    return [(dset.cats[a["category_id"]]["name"], [round(v, 3) for v in a["bbox"]]) for a in dset.anns.values()]


@pytest.fixture
def yolo(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / "images" / split / "a.png")
        (tmp_path / "labels" / split).mkdir(parents=True)
    (tmp_path / "data.yaml").write_bytes(
        "\ufefftrain: images/train\r\nval: images/val\r\nnames: [boat, car]\r\n".encode()
    )
    return tmp_path


def test_yolo_lines_of_predictions_and_files_of_windows_editors(yolo):
    lines = ["\ufeff0 0.5 0.5 0.5 0.5", "", "1 0.5 0.5 0.5 0.5 0.75", "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5",
             "1 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5 0.25"]  # fmt: skip
    (yolo / "labels" / "train" / "a.txt").write_bytes("\r\n".join(lines).encode())
    (yolo / "labels" / "val" / "a.txt").write_bytes(b"")
    (yolo / "labels" / "val" / "gone.txt").write_text("0 0.5 0.5 0.5 0.5")
    (yolo / "labels" / "val" / "classes.txt").write_text("boat\ncar")
    dset = ndzarr.dataset(yolo)
    assert found(dset) == [("boat", [20, 15, 40, 30]), ("car", [20, 15, 40, 30]), ("boat", [8, 6, 32, 24]),
                           ("car", [8, 6, 32, 24])]  # fmt: skip
    assert [a.get("score") for a in dset.anns.values()] == [None, 0.75, None, 0.25]
    assert ["segmentation" in a for a in dset.anns.values()] == [False, False, True, True]
    assert left_out(dset) == {"files of labels without an image": 1}
    with open(yolo / "data.yaml", "a") as file:
        file.write("kpt_shape: [1, 3]\n")
    (yolo / "labels" / "train" / "a.txt").write_text("0 .5 .5 .5 .5 .25 .5 2\n0 .5 .5 .5 .5 .25 .5 2 .5\n")
    posed = ndzarr.dataset(yolo)
    assert [a["keypoints"] for a in posed.anns.values()] == [[20, 30, 2]] * 2
    assert [a.get("score") for a in posed.anns.values()] == [None, 0.5]


@pytest.mark.parametrize("line", ["0 40 30 20 20", "0 0.5 0.5 -0.1 0.2", "0 0.1 0.1 0.2 0.2 0.3", "-1 0.5 0.5 0.1 0.1"])
def test_yolo_lines_in_pixels_or_of_no_form_are_named(yolo, line):
    file = yolo / "labels" / "train" / "a.txt"
    file.write_text(f"# a comment is none\n{line}\n" if line[0] == "#" else f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    if len(line.split()) == 6:  # a box with its score
        assert len(ndzarr.dataset(yolo).anns) == 2
        return
    with raises(SourceError, path=file, match="line 3"):
        ndzarr.dataset(yolo)


def test_one_file_of_labels_for_two_images_is_refused(tmp_path):
    for folder in ("one", "two"):
        write_image(tmp_path / folder / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    with raises(SourceError, path=tmp_path / "labels" / "a.txt", hint="Rename"):
        ndzarr.dataset(tmp_path, format="yolo")


def test_images_of_one_name_are_told_apart_by_their_directories(tmp_path):
    for split, size in (("train", (60, 80)), ("val", (30, 40))):
        write_image(tmp_path / "images" / split / "a.png", size)
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / "a.txt").write_text("10 5 30 5 30 25 10 25 ship 1\n")
    dset = ndzarr.dataset(tmp_path / "labels", images=tmp_path / "images")
    assert [(i["width"], len(dset.gid_to_aids[i["id"]])) for i in dset.imgs.values()] == [(80, 1), (40, 1)]
    assert [a["difficult"] for a in dset.anns.values()] == [1, 1]
    (tmp_path / "labels" / "a.txt").write_text("10 5 30 5 30 25 10 25 ship 1\n")
    with raises(SourceError, path=tmp_path / "labels" / "a.txt", hint="Name"):
        ndzarr.dataset(tmp_path / "labels", images=tmp_path / "images")


@pytest.mark.parametrize("line", ["10 5 30 5 30 25 10 25 storage tank 0", "10 5 30 5 30 25 10 25 ship maybe", "1 2 3"])
def test_dota_lines_that_are_not_understood_are_named(tmp_path, line):
    write_image(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(f"gsd:0.1\n{line}")
    with raises(SourceError, path=tmp_path / "labels" / "a.txt", match="line 2"):
        ndzarr.dataset(tmp_path / "labels", images=tmp_path / "images", format="dota")


def test_voc_errors_name_the_line_of_the_object(tmp_path):
    write_image(tmp_path / "a.png")
    box = "<bndbox><xmin>9</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>8</ymax></bndbox>"
    text = "<annotation>\n<object><name>cat</name>{}</object>\n<object>\n<name>dog</name>\n{}</object></annotation>"
    (tmp_path / "a.xml").write_text("\ufeff" + text.format(box.format(20), box.format(12)))
    assert found(ndzarr.dataset(tmp_path)) == [("cat", [8, 1, 12, 7]), ("dog", [8, 1, 4, 7])]
    for wrong in ("3", "", "x"):
        (tmp_path / "a.xml").write_text(text.format(box.format(20), box.format(wrong)))
        with raises(SourceError, path=tmp_path / "a.xml", match="line 5"):
            ndzarr.dataset(tmp_path)


def test_mot_frames_are_the_numbers_of_files_and_negative_ids_are_no_tracks(tmp_path):
    for k in (10, 11):
        write_image(tmp_path / "a" / "img1" / f"{k:06d}.png")
    (tmp_path / "a" / "det").mkdir()
    (tmp_path / "a" / "det" / "det.txt").write_bytes(b"10,-1,1,1,5,6,0.5,-1,-1,-1\r\n11,-1,2,1,5,6,0.25,-1,-1,-1\r\n")
    dset = ndzarr.dataset(tmp_path)
    assert [dset.imgs[a["image_id"]]["name"] for a in dset.anns.values()] == ["000010", "000011"]
    assert not any("track_id" in a for a in dset.anns.values())
    for line in ("1,-1,1,1,5,6,1", "10.5,-1,1,1,5,6,1", "10,-1,1,1,-5,6,1", "10,-1,1"):
        (tmp_path / "a" / "det" / "det.txt").write_text(line)
        with raises(SourceError, path=tmp_path / "a" / "det" / "det.txt", match="line 1"):
            ndzarr.dataset(tmp_path)


def test_label_studio_has_percents_and_boxes_that_turn_around_their_corner(tmp_path):
    write_image(tmp_path / "images" / "cat 1.png", (100, 200))

    def region(kind, value, label, **more):
        return {"type": kind, "value": {**value, kind: [label]}, "original_width": 200, "original_height": 100, **more}

    regions = [
        region("rectanglelabels", {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}, "cat"),
        region("rectanglelabels", {"x": 50, "y": 20, "width": 10, "height": 40, "rotation": 90}, "cat"),
        region("polygonlabels", {"points": [[0, 0], [10, 0], [10, 50]]}, "dog", score=0.5),
        region("ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 90}, "dog"),
        region("brushlabels", {"format": "rle", "rle": [1]}, "dog"),
    ]
    task = {"id": 7, "data": {"image": "/data/upload/1/3bd8a1c2-cat%201.png"}, "annotations": [
        {"was_cancelled": True, "result": []}, {"result": regions}, {"result": regions[:1]}]}  # fmt: skip
    path = tmp_path / "project.json"
    path.write_text(json.dumps([task]))
    dset = ndzarr.dataset(path, images=tmp_path / "images")
    assert found(dset) == [("cat", [20, 20, 60, 40]), ("cat", [60, 20, 40, 20]), ("dog", [0, 0, 20, 50]),
                           ("dog", [90, 30, 20, 40])]  # fmt: skip
    assert dset.anns[3]["score"] == 0.5
    assert left_out(dset) == {"regions of the kind brushlabels": 1, "further annotations of an image, by others": 1,
                              "annotations that were cancelled": 1}  # fmt: skip
    small = [{"image": "cat 1.png", "label": [{**r["value"], "original_width": 200} for r in regions[:3]]}]
    path.write_text(json.dumps(small))
    assert found(ndzarr.dataset(path, images=tmp_path / "images")) == found(dset)[:3]
    del regions[1]["value"]["x"]
    path.write_text(json.dumps([task]))
    with raises(SourceError, path=path, match="task 7"):
        ndzarr.dataset(path, images=tmp_path / "images")


CVAT = """<annotations><version>1.1</version><meta><task><size>3</size>{size}<labels><label><name>car</name></label>
</labels></task></meta>{body}</annotations>"""


def test_cvat_of_images(tmp_path):
    write_image(tmp_path / "images" / "sub" / "a.png")
    body = """<image id="0" name="sub/a.png" subset="Train" width="80" height="60">
<box label="car" occluded="1" xtl="10" ytl="20" xbr="30" ybr="30"><attribute name="colour">red</attribute></box>
<box label="car" xtl="10" ytl="20" xbr="30" ybr="30" rotation="90"/>
<polygon label="road" points="0,0;10,0;10,20"/>
<ellipse label="road" cx="40" cy="30" rx="10" ry="5"/>
<mask label="road" rle="1,2,1,2" left="4" top="5" width="3" height="2"/>
<points label="car" points="1,1"/></image>"""
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT.format(size="", body=body))
    dset = ndzarr.dataset(path)
    assert found(dset) == [("car", [10, 20, 20, 10]), ("car", [15, 15, 10, 20]), ("road", [0, 0, 10, 20]),
                           ("road", [30, 25, 20, 10]), ("road", [4, 5, 3, 2])]  # fmt: skip
    assert (dset.anns[1]["occluded"], dset.anns[1]["colour"], dset.imgs[1]["split"]) == (1, "red", "train")
    [mask] = ndzarr.CocoSampler(dset, tmp_path / "work").load_sample(gid=1, annot_ids=[5]).ndzarr.masks
    assert [row.tolist() for row in np.argwhere(mask)] == [[5, 5], [5, 6], [6, 5], [6, 6]]
    assert left_out(dset) == {"shapes of the kind points": 1}
    for wrong in ('<box label="car" xtl="10" ytl="x" xbr="30" ybr="30"/>', '<polygon label="a" points="1,2;3"/>',
                  '<mask label="road" rle="1,2" left="4" top="5" width="3" height="2"/>'):  # fmt: skip
        path.write_text(CVAT.format(size="", body=f'<image name="a.png">\n{wrong}</image>'))
        with raises(SourceError, path=path, match="line 3"):
            ndzarr.dataset(path)


@pytest.mark.parametrize("kind", ["files", "video"])
def test_cvat_of_a_video_has_tracks_that_leave_the_picture(tmp_path, kind):
    if kind == "files":
        for k in range(3):
            write_image(tmp_path / "frames" / f"frame_{k:06d}.png")
    else:
        frames = [PIL.Image.fromarray(np.full((60, 80), 80 * k, "u1")) for k in range(3)]
        (tmp_path / "frames").mkdir()
        frames[0].save(tmp_path / "frames" / "film.gif", save_all=True, append_images=frames[1:])
    shape = '<box frame="{}" outside="{}" occluded="0" xtl="{}" ytl="2" xbr="30" ybr="30"/>'
    body = f'<track id="4" label="car">{shape.format(0, 0, 10)}{shape.format(1, 0, 12)}{shape.format(2, 1, 14)}</track>'
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT.format(size="<original_size><width>80</width><height>60</height></original_size>", body=body))
    dset = ndzarr.dataset(path, images=tmp_path / "frames")
    assert len(dset.imgs) == 3
    assert found(dset) == [("car", [10, 2, 20, 28]), ("car", [12, 2, 18, 28])]
    assert left_out(dset) == {"shapes of tracks outside of the picture": 1}
    sample = ndzarr.CocoSampler(dset, tmp_path / "work").load_sample(vidid=1)
    assert sample.sizes["t"] == 3
    assert sample.track_id.values.tolist() == [4, 4]
    if kind == "video":
        assert sample.image.values[:, 0, 0, 0].tolist() == [0, 80, 160]


def scene(path, left, crs="EPSG:4326", pixel=0.1):
    path.parent.mkdir(exist_ok=True)
    profile = {"driver": "GTiff", "height": 20, "width": 20, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", **profile, crs=crs, transform=rasterio.Affine(pixel, 0, left, 0, -pixel, 1)) as out:
        out.write(np.zeros((1, 20, 20), "u1"))


def test_features_beyond_the_antimeridian_and_of_longitudes_up_to_360(tmp_path):
    scene(tmp_path / "in" / "pacific.tif", 179)  # 179 to 181
    scene(tmp_path / "in" / "round.tif", 340)  # 340 to 342
    squares = {"east": (-180, 0, -179.5, 0.5), "west": (179.5, 0, 180, 0.5), "round": (-19.5, 0, -19, 0.5)}
    shapes = {name: shapely.geometry.mapping(shapely.box(*box)) for name, box in squares.items()}
    features = [{"type": "Feature", "properties": {"class": name}, "geometry": g} for name, g in shapes.items()]
    part = shapely.geometry.mapping(shapely.box(-19.5, 0, -19.2, 0.3))["coordinates"]
    two = {"type": "MultiPolygon", "coordinates": [part]}
    features.append({"type": "Feature", "properties": None, "geometry": two})
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features, "crs": crs}))
    dset = ndzarr.dataset(tmp_path / "a.geojson", images=tmp_path / "in")
    assert found(dset) == [
        ("east", [10, 5, 5, 5]),
        ("west", [5, 5, 5, 5]),
        ("round", [5, 5, 5, 5]),
        ("object", [5, 7, 3, 3]),
    ]
    assert left_out(dset) == {}
    features[2]["geometry"] = {"type": "Polygon", "coordinates": [[["x", 1], [2, 2], [3, 4]]]}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with raises(SourceError, path=tmp_path / "a.geojson", match="feature 3"):
        ndzarr.dataset(tmp_path / "a.geojson", images=tmp_path / "in")


def test_all_layers_of_a_geopackage_are_read_in_their_reference_systems(tmp_path):
    scene(tmp_path / "in" / "a.tif", 10)
    for layer, crs, left in (("roads", "EPSG:4326", 10.5), ("houses", "EPSG:3857", 11)):
        table = geopandas.GeoDataFrame(
            {"height": [3.5]}, geometry=[shapely.box(left, 0, left + 0.5, 0.5)], crs="EPSG:4326"
        )
        table.to_crs(crs).to_file(tmp_path / "a.gpkg", layer=layer)
    dset = ndzarr.dataset(tmp_path / "a.gpkg", images=tmp_path / "in")
    assert found(dset) == [("roads", [5, 5, 5, 5]), ("houses", [10, 5, 5, 5])]
    assert {a["height"] for a in dset.anns.values()} == {3.5}


def test_qupath_classes_of_several_names_and_rois_that_are_no_areas(tmp_path):
    write_image(tmp_path / "slides" / "a.png")
    square = {"type": "Polygon", "coordinates": [[[5, 6], [12, 6], [12, 14], [5, 14], [5, 6]]]}
    about = {"objectType": "detection", "classification": {"names": ["Tumor", "Positive"], "color": [1, 2, 3]}}
    features = [{"type": "Feature", "geometry": square, "nucleusGeometry": square, "properties": about}]
    for kind, points in (("LineString", [[0, 0], [1, 1]]), ("MultiPoint", [[0, 0]]), ("Point", [1, 2])):
        features.append({"type": "Feature", "geometry": {"type": kind, "coordinates": points}, "properties": about})
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    dset = ndzarr.dataset(tmp_path / "a.geojson", images=tmp_path / "slides")
    assert found(dset) == [("Tumor: Positive", [5, 6, 7, 8])]
    kinds = {f"features whose geometry is {kind}": 1 for kind in ("LineString", "MultiPoint", "Point")}
    assert left_out(dset) == {"nuclei of cells": 1, **kinds}


def test_stac_items_with_bands_of_1_1_without_dates_and_with_names_that_are_quoted(tmp_path):
    for name in ("a b.tif", "b.tif", "c.tif"):
        scene(tmp_path / "data" / name, 10)
    bands = [{"eo:common_name": "red"}]

    def item(name, **properties):
        return {"type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": None, "properties": properties,
                "links": [{"rel": "self", "href": "https://example.org/items/a.json"}],
                "assets": {"B04": {"href": f"../data/{name}", "bands": bands, "roles": ["data"]}}}  # fmt: skip

    items = [item("a%20b.tif", datetime=None, start_datetime="2021-05-03T00:00:00Z"), item("b.tif", datetime=None),
             item("c.tif", datetime="2021-04-30T23:30:00-02:00"),
             item("far.tif", datetime="2021-05-01T02:00:00Z")]  # fmt: skip
    items[3]["assets"]["B04"] |= {
        "proj:code": "EPSG:4326",
        "proj:shape": [20, 20],
        "proj:transform": [0.1, 0, 10, 0, -0.1, 1],
    }
    (tmp_path / "items").mkdir()
    (tmp_path / "items" / "all.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    dset = ndzarr.dataset(tmp_path / "items" / "all.json", series=True)
    assert [dset.imgs[gid]["name"] for gid in dset.index.vidid_to_gids[1]] == ["c.tif", "far.tif", "a%20b.tif"]
    assert left_out(dset) == {"images without a date, which are in no video": 1}
    assets = [image["assets"][0] for image in dset.imgs.values()]
    assert {asset["channels"] for asset in assets} == {"red"}
    assert assets[3]["file_name"] == "https://example.org/data/far.tif"
    assert ndzarr.CocoSampler(dset, tmp_path / "work").load_sample(gid=1).image.shape == (1, 20, 20)
