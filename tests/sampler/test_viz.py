"""Pictures show the pixels, annotations, windows and chunks that were asked for."""

import base64
import io
import re

import av
import numpy as np
import pytest
import tifffile
from PIL import Image
from pyproj import CRS

import ndzarr
import ndzarr.viz
from helpers.errors import raises
from ndzarr._geo.crs import Crs
from ndzarr._geo.georeference import Georeference
from ndzarr.errors import ExistsError, OptionError, TargetError


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """Three frames of 40 x 60 pixels: a track that moves right, with a keypoint; four bands of 16 bits."""
    folder = tmp_path_factory.mktemp("viz")
    images, annotations = [], []
    for t in range(3):
        bands = np.full((4, 40, 60), 1000, np.uint16) + 1000 * np.arange(4, dtype=np.uint16)[:, None, None]
        bands[:, :, :30] += 500
        np.save(folder / f"{t}.npy", bands)
        channels = {"channels": "r|g|b|nir", "width": 60, "height": 40}
        images.append({"id": t + 1, "video_id": 1, "frame_index": t, "file_name": f"{folder}/{t}.npy", **channels})
        place = {"bbox": [5 + 10 * t, 10, 10, 10], "keypoints": [{"xy": [10 + 10 * t, 15]}]}
        annotations.append({"id": t + 1, "image_id": t + 1, "category_id": 1, "track_id": 7, **place})
    videos = [{"id": 1, "name": "v", "width": 60, "height": 40}]
    content = {"images": images, "videos": videos, "annotations": annotations, "categories": [{"id": 1, "name": "car"}]}
    return ndzarr.CocoSampler(content, folder / "work")


def color_of(picture):
    """The colours of a picture, as a set."""
    return {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()}


def test_a_drawing_shows_the_chosen_channels_stretched_one_by_one(sampler):
    sample = sampler.load_sample(gid=1, with_annots=False)
    plain = np.asarray(sample.ndzarr.draw(1))
    assert plain.shape == (40, 60, 3)
    assert color_of(sample.ndzarr.draw(1, channels=["nir", "r", 1], stretch=(0, 100))) == {(255,) * 3, (0,) * 3}
    grey = np.asarray(sample.ndzarr.draw(1, channels=["nir"]))
    assert (grey[..., 0] == grey[..., 2]).all()
    composite = ndzarr.viz.composite(sample.image, ["nir", "g", "r"], stretch=(0, 100))
    assert composite.size == (60, 40)
    assert color_of(composite) == {(255,) * 3, (0,) * 3}
    with raises(TargetError, key="channels", match="r, g, b, nir"):
        sample.ndzarr.draw(channels=["swir"])
    with raises(TargetError, key="t"):
        ndzarr.viz.composite(sampler.load_sample(vidid=1).image)


def test_a_drawing_shows_boxes_keypoints_and_the_way_of_a_track(sampler):
    bare = np.asarray(sampler.load_sample(vidid=1, with_annots=False).ndzarr.draw(1))
    drawn = np.asarray(sampler.load_sample(vidid=1).ndzarr.draw(1))
    changed = (bare != drawn).any(-1)
    for t in range(3):
        frame = changed[:, t * 64 : t * 64 + 60]
        x = 5 + 10 * t
        assert frame[20, x : x + 11].all()  # the lower border of its box
        assert frame[14:17, x + 4 : x + 7].all()  # its keypoint
        assert frame[15, 11:x].sum() >= max(0, x - 13)  # the way from the first frame to this one


def test_clips_hold_every_frame(sampler, tmp_path):
    sample = sampler.load_sample(vidid=1)
    ndzarr.viz.animate(sample, tmp_path / "a.gif", scale=2)
    ndzarr.viz.animate(sample, tmp_path / "a.mp4", scale=2)
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size) == (3, (120, 80))
    with av.open(tmp_path / "a.mp4") as mp4:
        assert len(list(mp4.decode(video=0))) == 3
    with raises(ExistsError, path=tmp_path / "a.gif"):
        ndzarr.viz.animate(sample, tmp_path / "a.gif")
    with raises(OptionError, path=tmp_path / "a.avi"):
        ndzarr.viz.animate(sample, tmp_path / "a.avi")


def test_windows_stand_over_their_image_by_kind(sampler):
    table = sampler.targets.grid((20, 20))
    colors = color_of(ndzarr.viz.draw_targets(sampler, table, 2))
    assert {(45, 212, 191), (248, 113, 113)} <= colors
    assert (45, 212, 191) not in color_of(ndzarr.viz.draw_targets(sampler, table[table.kind == "negative"]))
    with raises(TargetError, key="gid"):
        ndzarr.viz.draw_targets(sampler, table, 99)


def test_a_batch_is_a_contact_sheet(sampler):
    batch = sampler.load_batch(sampler.targets.grid((20, 20))[:6])
    assert batch.ndzarr.draw(columns=3, scale=1).size == (3 * 24 - 4, 2 * 24 - 4)


def test_a_plan_draws_the_chunks_that_it_reads_and_notebooks_show_all_of_it(sampler):
    pyramid = ndzarr.transcode(np.zeros((300, 300), "u1"), sampler.workdir / "p.zarr", chunks={"y": 100, "x": 100})
    plan = pyramid.plan([{"y": slice(50, 150), "x": slice(0, 90)}, {"y": slice(0, 10), "x": slice(0, 10)}])
    drawing = ndzarr.viz.draw_plan(plan)
    assert drawing.count('fill-opacity="0.85"') == 1  # both windows want the first chunk
    assert drawing.count("fill-opacity") == 2
    assert "chunks" in plan._repr_html_()
    sample, batch = sampler.load_sample(gid=1), sampler.load_batch([{"gid": 1}, {"gid": 2}])
    assert all("data:image/png" in one._repr_html_() for one in (sample.ndzarr, batch.ndzarr))


def pictures_in(html):
    """The pictures of an element of a page."""
    found = re.findall(r"<img [^>]*src='data:image/png;base64,([^']+)'>", html)
    return [Image.open(io.BytesIO(base64.b64decode(png))) for png in found]


def test_a_plan_of_very_many_chunks_and_windows_is_drawn_small(sampler):
    pyramid = ndzarr.transcode(np.zeros((1024, 1024), "u1"), sampler.workdir / "q.zarr", chunks={"y": 8, "x": 8})
    plan = pyramid.plan([{"y": slice(y, y + 8), "x": slice(0, 1024)} for y in range(0, 1024, 8)] * 9)
    assert (len(plan), len(plan.reads)) == (1152, 128 * 128)
    html = plan._repr_html_()
    assert html.count("fill-opacity") == 64 * 64
    assert len(html) < 500_000


def test_a_notebook_shows_the_images_of_a_sampler_that_are_quick_to_read_and_names_all(sampler, tmp_path):
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "<a>.png")
    tifffile.imwrite(tmp_path / "b.tif", np.full((700, 900), 7, "u2"), tile=(256, 256))
    named = ndzarr.Sampler({name: tmp_path / name for name in ("<a>.png", "b.tif")}, tmp_path / "work")
    html = named._repr_html_()
    assert not pictures_in(html)  # it transcodes nothing
    assert "&lt;a&gt;.png" in html
    assert "2 sources" in html
    assert not (tmp_path / "work").exists()
    named.prepare()
    [red] = pictures_in(named._repr_html_())
    assert color_of(red) == {(200, 30, 30)}
    named.open("b.tif").read(y=slice(0, 1))
    assert [p.size for p in pictures_in(named._repr_html_())] == [(150, 100), (225, 175)]
    [clip] = pictures_in(sampler._repr_html_())
    assert clip.size == (60, 40)


def test_a_notebook_shows_a_table_over_the_images_it_comes_from(sampler, tmp_path):
    table = sampler.targets.grid((20, 20))
    shown = ndzarr.viz.Overview(sampler, table)
    assert repr(shown) == "<14 negative, 4 positive in 3 images>"
    html = shown._repr_html_()
    assert "v: 5 negative, 1 positive" in html
    [picture] = pictures_in(html)
    assert {(45, 212, 191), (248, 113, 113)} <= color_of(picture)
    of_video = ndzarr.viz.Overview(sampler, [{"vidid": 1, "cx": 30, "cy": 20, "width": 10, "height": 10}])
    assert (250, 204, 21) in color_of(pictures_in(of_video._repr_html_())[0])
    unread = ndzarr.CocoSampler(sampler.dset, tmp_path)  # nothing is transcoded: windows stand on a blank
    [blank] = pictures_in(ndzarr.viz.Overview(unread, table)._repr_html_())
    assert blank.size == (60, 40)
    assert not any(tmp_path.iterdir())


def test_a_reference_system_is_shown_by_its_name():
    assert repr(Crs(wkt=CRS.from_epsg(32633).to_wkt())) == "<Crs WGS 84 / UTM zone 33N>"
    assert repr(Georeference(Crs("EPSG:4326"), (1, 0, 10, 0, -1, 50))) == (
        "<Georeference EPSG:4326, transform (1, 0, 10, 0, -1, 50)>"
    )
