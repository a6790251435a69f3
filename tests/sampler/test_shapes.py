"""Shapes of annotations: their boxes, and their pixels, which are those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
import xarray
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

import ndzarr
from helpers.errors import raises
from helpers.hypothesis_settings import examples
from ndzarr.errors import TargetError

coco_masks = pytest.importorskip("pycocotools.mask")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own

HEIGHT, WIDTH = 60, 80


@pytest.fixture(scope="module")
def sampler_of(tmp_path_factory):
    """Make a sampler of one image with these annotations."""
    folder = tmp_path_factory.mktemp("shapes")
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(folder / "a.png")

    def make(*annotations, **image):
        content = {
            "images": [{"id": 1, "file_name": str(folder / "a.png"), "width": WIDTH, "height": HEIGHT, **image}],
            "categories": [{"id": 1, "name": "a"}],
            "annotations": [{"id": k, "image_id": 1, "category_id": 1, **a} for k, a in enumerate(annotations, 1)],
        }
        return ndzarr.CocoSampler(content, folder / "work")

    return make


def theirs(polygon, height=HEIGHT, width=WIDTH):
    """The mask that pycocotools makes of a flat list of coordinates."""
    return coco_masks.decode(coco_masks.frPyObjects([list(map(float, polygon))], height, width))[..., 0].astype(bool)


def ours(sample):
    """The masks of a sample, which its detections must have, too."""
    masks = sample.ndzarr.masks
    dims = masks.shape[1:]
    for detections in sample.ndzarr.detections:
        for mask, shape in zip(masks, detections.data["segmentations"], strict=True):
            if shape is not None:
                np.testing.assert_array_equal(shape.to_mask(dims=dims).data.astype(bool), mask)
                filled = shape.fill(np.zeros(dims, np.uint8), value=3)
                np.testing.assert_array_equal(filled == 3, mask)
    return masks


tenths = st.integers(-300, 1100).map(lambda v: v / 10)
anywhere = st.floats(-30, 110, width=32)
points = st.one_of(
    *[st.lists(st.tuples(v, v), min_size=3, max_size=9) for v in (st.integers(-30, 110), tenths, anywhere)]
)


@examples(80)
@given(points, st.sampled_from([1, 0.5, 2, 0.25]), st.integers(0, 30), st.integers(0, 30))
@example([(10, 10), (10.4, 10), (10.4, 10.4)], 1, 0, 0)
@example([(10, 10), (50, 40), (50, 10), (10, 40)], 1, 5, 7)
def test_polygons_have_the_pixels_of_pycocotools_at_any_scale_and_in_any_window(sampler_of, polygon, scale, y, x):
    flat = np.array(polygon, float).ravel()
    sampler = sampler_of({"segmentation": [flat.tolist()], "bbox": [0, 0, WIDTH, HEIGHT]})
    whole = theirs(flat * scale, round(HEIGHT * scale), round(WIDTH * scale))
    np.testing.assert_array_equal(ours(sampler.load_sample(gid=1, scale=scale))[0], whole)
    y, x = y // 4 * 4, x // 4 * 4  # whole pixels at all scales
    window = sampler.load_sample(gid=1, y=slice(y, HEIGHT), x=slice(x, WIDTH), scale=scale)
    np.testing.assert_array_equal(window.ndzarr.masks[0], whole[round(y * scale) :, round(x * scale) :])


def test_parts_are_united_and_holes_left_out(sampler_of):
    outer, hole, other = [5, 5, 45, 5, 45, 45, 5, 45], [10, 10, 30, 12, 20, 30], [40, 40, 70, 40, 70, 55]
    pairs = [np.reshape(ring, (-1, 2)).tolist() for ring in (outer, hole, other)]
    holed = [{"exterior": pairs[0], "interiors": [pairs[1]]}, {"exterior": pairs[2], "interiors": []}]
    masks = ours(sampler_of({"segmentation": holed}, {"segmentation": [outer, other]}).load_sample(gid=1))
    np.testing.assert_array_equal(masks[0], (theirs(outer) & ~theirs(hole)) | theirs(other))
    np.testing.assert_array_equal(masks[1], theirs(outer) | theirs(other))


@pytest.mark.parametrize("scale", [1, 0.5, 2, 0.1])
def test_boxes_that_touch_have_their_area_and_do_not_overlap(sampler_of, scale):
    tiles = [{"bbox": [20 * i, 20 * j, 20, 20]} for i in range(4) for j in range(3)]
    masks = sampler_of(*tiles).load_sample(gid=1, scale=scale).ndzarr.masks
    assert masks.sum((1, 2)).tolist() == [round(400 * scale**2)] * 12
    assert (masks.sum(0) == 1).all()


def blob(seed=0):
    """A mask with holes and islands."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((HEIGHT // 4, WIDTH // 4)) > 0.6
    mask = np.kron(coarse, np.ones((4, 4), bool))
    mask[:, :8] = mask[-4:] = False
    mask[7, 30:41] = True
    return mask


def run_lengths(mask):
    flat = mask.T.ravel()
    runs = np.diff(np.flatnonzero(np.r_[True, flat[1:] != flat[:-1], True])).tolist()
    return {"size": list(mask.shape), "counts": runs if not flat[0] else [0, *runs]}


@pytest.mark.parametrize("form", ["text", "bytes", "numbers"])
def test_masks_keep_their_pixels(sampler_of, form):
    mask = blob()
    rle = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle = {"bytes": rle, "text": {**rle, "counts": rle["counts"].decode()}, "numbers": run_lengths(mask)}[form]
    sampler = sampler_of({"segmentation": rle})
    sample = sampler.load_sample(gid=1)
    np.testing.assert_array_equal(ours(sample)[0], mask)
    box = coco_masks.toBbox(coco_masks.encode(np.asfortranarray(mask.astype(np.uint8))))
    assert sample.bbox.values.tolist() == [box.tolist()]
    part = sampler.load_sample(gid=1, y=slice(-3, 40), x=slice(20, 90))
    np.testing.assert_array_equal(ours(part)[0][3:, :60], mask[:40, 20:])
    assert not part.ndzarr.masks[0][:3].any()
    assert not part.ndzarr.masks[0][:, 60:].any()
    np.testing.assert_array_equal(sampler.load_sample(gid=1, scale=2).ndzarr.masks[0], mask.repeat(2, 0).repeat(2, 1))
    half = sampler.load_sample(gid=1, scale=1 / 4)
    np.testing.assert_array_equal(half.ndzarr.masks[0], mask[2::4, 2::4])


def test_a_mask_of_another_size_than_the_image_is_an_error_that_names_both(sampler_of):
    for shape in ((HEIGHT // 2, WIDTH // 2), (WIDTH, HEIGHT), (10**6, 10**6)):
        rle = {"size": list(shape), "counts": [shape[0] * shape[1]]}
        boxed = sampler_of({"segmentation": rle, "bbox": [5, 5, 9, 9], "category_id": 1})
        sample = boxed.load_sample(gid=1)
        for use in (
            lambda sample=sample: sample.ndzarr.detections,
            lambda sample=sample: sample.ndzarr.masks,
            lambda sample=sample: sample.ndzarr.draw(),
            lambda boxed=boxed: boxed.targets.grid((20, 20), negative_classes=["a"]),
            lambda rle=rle: sampler_of({"segmentation": rle}).load_sample(gid=1),
            lambda rle=rle: sampler_of({"segmentation": rle}).targets.positives(),
        ):
            with raises(TargetError, key="segmentation") as caught:
                use()
            assert f"{shape[0]} x {shape[1]} pixels" in str(caught.value)
            assert f"image 1 is {HEIGHT} x {WIDTH}" in str(caught.value)


BOXLESS = {
    "polygon": ({"segmentation": [[10, 20, 50, 20, 50, 44]]}, [10, 20, 40, 24]),
    "polygon without extent": ({"segmentation": [[10, 20, 10, 20]]}, [10, 20, 0, 0]),
    "rle": ({"segmentation": run_lengths(blob())}, None),
    "keypoints": ({"keypoints": [10, 20, 2, 50, 44, 1, 0, 0, 0]}, [10, 20, 40, 24]),
    "kwcoco's keypoints": ({"keypoints": [{"xy": [10, 20]}, {"xy": [50, 44]}]}, [10, 20, 40, 24]),
    "oriented": ({"bbox": [30, 30, 20, 10, 90]}, [25, 20, 10, 20]),
    "DOTA's": ({"bbox": [10, 30, 30, 20, 50, 30, 30, 44]}, [10, 20, 40, 24]),
    "NaN": ({"bbox": [float("nan")] * 4, "segmentation": [[10, 20, 50, 20, 50, 44]]}, [10, 20, 40, 24]),
    "zero": ({"bbox": [0, 0, 0, 0], "segmentation": [[10, 20, 50, 20, 50, 44]]}, [10, 20, 40, 24]),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOXLESS)
def test_an_annotation_without_a_box_has_that_of_its_shape_everywhere(sampler_of, tmp_path, kind):
    annotation, box = BOXLESS[kind]
    sampler = sampler_of(annotation)
    if box is None:
        box = coco_masks.toBbox(coco_masks.encode(np.asfortranarray(blob().astype(np.uint8)))).tolist()
    x, y, w, h = box
    sample = sampler.load_sample(gid=1)
    np.testing.assert_allclose(sample.bbox.values, [box])
    np.testing.assert_allclose(sample.ndzarr.detections[0].boxes.data, [box])
    table = sampler.targets.positives((8, 8))
    assert table.aid.tolist() == [1]
    assert abs(table.cx[0] - (x + w / 2)) <= 1
    if w and h:
        np.testing.assert_allclose(sampler.load_sample(aid=1).bbox.values[0, 2:], [w, h])
    grid = sampler.targets.grid((HEIGHT, WIDTH))
    assert grid.kind.tolist() == ["positive"]
    assert grid.annot_ids.tolist() == [(1,)]
    whole = [{"gid": 1}, {"gid": 1}]
    assert sampler.load_batch(whole).annot_id.values.tolist() == [1, 1]
    assert sampler.lazy_batch(whole).annot_id.values.tolist() == [1, 1]
    with xarray.open_zarr(sampler.extract(whole, tmp_path / "crops.zarr")) as stored:
        assert stored.annot_id.values.tolist() == [1, 1]
    if h < HEIGHT - 10:
        free = sampler.targets.negatives(30, (4, 4), seed=0)
        apart = (free.cx + 2 <= x) | (free.cx - 2 >= x + w) | (free.cy + 2 <= y) | (free.cy - 2 >= y + h)
        assert apart.all()


def test_coverage_counts_the_shape_of_regions_without_a_box(sampler_of):
    half = {"segmentation": [[0, 0, WIDTH / 2, 0, WIDTH / 2, HEIGHT, 0, HEIGHT]]}
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, : WIDTH // 2] = True
    for region in (half, {"segmentation": run_lengths(mask)}, {"bbox": [WIDTH / 4, HEIGHT / 2, WIDTH / 2, HEIGHT, 0]}):
        table = sampler_of(region).targets.grid((HEIGHT, WIDTH), negative_classes=["a"])
        assert table.coverage.tolist() == [0.5]


@pytest.mark.parametrize("angle", [0, 30, -75, 90, 200])
def test_oriented_boxes_are_shapes(sampler_of, angle):
    sampler = sampler_of({"bbox": [40, 30, 30, 12, angle]})
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    # The corners as Detectron2's visualizer draws them: angles turn counter-clockwise, y points down.
    corners = [(40 + cos * a + sin * b, 30 + cos * b - sin * a) for a, b in ((-15, -6), (15, -6), (15, 6), (-15, 6))]
    np.testing.assert_array_equal(ours(sampler.load_sample(gid=1))[0], theirs(np.ravel(corners)))
    np.testing.assert_allclose(sampler.load_sample(gid=1).ndzarr.masks[0].sum(), 360, rtol=0.05)


@pytest.mark.parametrize(
    "shape",
    [[[1, 2, float("nan"), 4, 5, 6]], [{"exterior": [[1, 2], [3, float("inf")], [5, 6]]}],
     [[1, 2, 1e308, 4, 5, 6]], 1, [[1, 2, 3]],
     {"size": [HEIGHT, WIDTH], "counts": [-1, HEIGHT * WIDTH + 1]}, {"size": [HEIGHT, WIDTH], "counts": [10**400]}],
    ids=str,
)  # fmt: skip
def test_shapes_of_another_form_are_named_wherever_they_are_needed(sampler_of, shape):
    sample = sampler_of({"segmentation": shape, "bbox": [0, 0, 9, 9]}).load_sample(gid=1)
    bare = sampler_of({"segmentation": shape})
    for use in (lambda: sample.ndzarr.detections, lambda: sample.ndzarr.masks, lambda: bare.load_sample(gid=1)):
        with raises(TargetError, key="segmentation") as caught:
            use()
        assert "annotation 1" in str(caught.value)


def test_a_keypoint_that_is_not_finite_is_named_where_it_stands_for_the_box(sampler_of):
    with raises(TargetError, key="keypoints"):
        sampler_of({"keypoints": [1, float("nan"), 2]}).load_sample(gid=1)
