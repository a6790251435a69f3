"""A dataset with everything that the viewer shows, and requests as a browser sends them."""

import http.client
import io
import json
from types import SimpleNamespace
from urllib.parse import urlencode, urlsplit

import numpy as np
import pandas
import pytest
import tifffile
from PIL import Image

import ndzarr
from helpers.arrays import photo, random_array

HEIGHT, WIDTH = 601, 830
"""Of the photograph: odd, and more than a tile."""


@pytest.fixture(scope="session")
def content(tmp_path_factory):
    """The dictionary of a photograph with annotations, and of a video of two frames, the second half as large."""
    folder = tmp_path_factory.mktemp("viewed")
    Image.fromarray(photo(HEIGHT, WIDTH)).save(folder / "photo.png")
    for t, side in enumerate((120, 60)):
        tifffile.imwrite(folder / f"{t}.tif", random_array((2, side, side), "u2", t), planarconfig="separate")
    frame = {"video_id": 1, "channels": "red|nir"}
    half = {"warp_img_to_vid": {"scale": 2}}
    return {
        "images": [
            {"id": 1, "file_name": f"{folder}/photo.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": f"{folder}/0.tif", "height": 120, "width": 120, "frame_index": 0, **frame},
            {"id": 3, "file_name": f"{folder}/1.tif", "height": 60, "width": 60, "frame_index": 1, **frame, **half},
        ],
        "videos": [{"id": 1, "name": "<b>clip</b>", "height": 120, "width": 120}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [300, 100, 200, 150], "score": 0.5},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [10, 400, 60, 60], "track_id": 7,
             "segmentation": [[10, 400, 70, 400, 40, 460]], "keypoints": [20, 410, 2]},
            {"id": 3, "image_id": 3, "category_id": 2, "bbox": [10, 20, 30, 15]},
        ],
    }  # fmt: skip


@pytest.fixture(scope="session")
def targets():
    """Windows of the photograph, and of the second frame of the video."""
    photo = {"gid": 1, "cx": 400, "cy": 170, "width": 256, "height": 200}
    frame = {"vidid": 1, "time_start": 1, "time_stop": 2, "time_step": 1, "cx": 60, "cy": 60, "width": 40, "height": 20}
    empty = photo | {"cx": 150, "cy": 150}
    return pandas.DataFrame([photo | {"kind": "positive"}, empty | {"kind": "negative"}, frame | {"kind": "negative"}])


@pytest.fixture(scope="session")
def sampler(content, tmp_path_factory):
    return ndzarr.CocoSampler(content, tmp_path_factory.mktemp("pyramids"))


@pytest.fixture(scope="session")
def viewer(sampler, targets):
    """The page of the dataset: item 0 is the video, item 1 the photograph."""
    with sampler.view(targets, browser=False) as found:
        yield found


@pytest.fixture(scope="session")
def ask():
    """Sends a request to a viewer, and returns its status, headers, and body: pixels, an object or text."""

    def call(viewer, path, headers=None, method="GET", **query):
        url = urlsplit(viewer.url)
        connection = http.client.HTTPConnection(url.netloc, timeout=60)
        path = path if path.startswith("/") else url.path + path
        connection.putrequest(method, f"{path}?{urlencode(query)}" if query else path, skip_host=True)
        for name, value in ({"Host": url.netloc} | (headers or {})).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
        connection.close()
        match response.headers.get_content_type():
            case "image/png":
                body = np.asarray(Image.open(io.BytesIO(body)))
            case "application/json":
                body = json.loads(body)
            case kind if kind.startswith("text/"):
                body = body.decode()
        return SimpleNamespace(status=response.status, headers=response.headers, body=body)

    return call


@pytest.fixture(scope="session")
def tile(ask):
    """Asks for a tile, and returns its pixels, axes (y, x, rgb or rgba)."""

    def call(viewer, path, show="0,0,255,ff0000;1,0,255,00ff00;2,0,255,0000ff", **query):
        found = ask(viewer, f"tile/{path}", show=show, **query)
        assert found.status == 200, found.body
        return found.body

    return call
