"""Hypothesis strategies for batches of targets of the dataset `mixed`."""

from __future__ import annotations

from hypothesis import strategies as st

GROUPS = {
    "rgb": ({"gid": 1}, {"gid": 2}, {"gid": 3}),
    "grey": ({"gid": 4},),
    "dem": ({"gid": 5}, {"gid": 6}),
    "film": ({"vidid": 1}, {"gids": (10, 11)}, {"gids": (13,)}),
    "frames": ({"gid": 10}, {"gid": 12}, {"gid": 13}),
}
"""Images and videos whose samples mostly fit together."""

CHANNELS = {"rgb": (None, "r|b", "b"), "grey": (None,), "dem": (None,), "film": (None, "nir|r", "r"),
            "frames": ("r|g", "nir|g")}  # fmt: skip


@st.composite
def batches(draw):
    """(targets, options of load_sample)."""
    group = draw(st.sampled_from(sorted(GROUPS)))
    side = st.integers(1, 70)
    same = draw(st.booleans())
    height, width = draw(side), draw(side)
    targets = []
    for _ in range(draw(st.integers(1, 5))):
        if not same:
            height, width = draw(side), draw(side)
        y, x = draw(st.integers(-20, 130)), draw(st.integers(-20, 130))
        target = dict(draw(st.sampled_from(GROUPS[group])))
        target |= {"y": slice(y, y + height), "x": slice(x, x + width)}
        if "vidid" in target and draw(st.booleans()):
            start = draw(st.integers(-1, 3))
            target["time_slice"] = slice(start, start + draw(st.integers(1, 3)), draw(st.integers(1, 2)))
        if not same:
            target |= draw(st.sampled_from([{}, {"scale": 0.5}, {"scale": (0.3, 1.7)}, {"pad": 3}]))
        targets.append(target)
    options = {
        "channels": draw(st.sampled_from(CHANNELS[group])),
        "nodata": draw(st.sampled_from([None, "ma", "float", "fill", "auto"])),
        "padkw": draw(st.sampled_from([None, {"mode": "reflect"}, {"mode": "edge"}, {"constant_values": 9}])),
        "dtype": draw(st.sampled_from([None, None, "float32", "float64"])),
        "visible_thresh": draw(st.sampled_from([0.0, 0.4])),
        "clip": draw(st.booleans()),
    }
    if same and draw(st.booleans()):
        options["scale"] = draw(st.sampled_from([0.25, 0.61, 2]))
    return targets, {key: value for key, value in options.items() if value is not None}


@st.composite
def tables(draw):
    """(a table whose rows differ in image and window alone, options)."""
    import pandas

    group = draw(st.sampled_from(["rgb", "grey", "dem"]))
    n = draw(st.integers(1, 7))
    number = st.floats(-30, 150) if draw(st.booleans()) else st.integers(-30, 150)
    gids = [target["gid"] for target in GROUPS[group]]
    columns = {
        "gid": draw(st.lists(st.sampled_from(gids), min_size=n, max_size=n)),
        "cx": draw(st.lists(number, min_size=n, max_size=n)),
        "cy": draw(st.lists(number, min_size=n, max_size=n)),
        "width": draw(st.floats(1, 60)),
        "height": draw(st.one_of(st.integers(1, 60), st.lists(st.floats(1, 60), min_size=n, max_size=n))),
    }
    columns |= draw(st.sampled_from([{}, {"kind": "positive"}, {"scale": 2.0}, {"channels": None}, {"pad": 3}]))
    options = {
        "nodata": draw(st.sampled_from([None, "ma", "float", "fill"])),
        "visible_thresh": draw(st.sampled_from([0.0, 0.4])),
        "clip": draw(st.booleans()),
        "window_dims": draw(st.sampled_from([None, "square", (20, 30)])),
    }
    if "scale" not in columns:
        options |= draw(st.sampled_from([{}, {"scale": 0.7}, {"output_dims": (9, 11)}]))
    return pandas.DataFrame(columns), {key: value for key, value in options.items() if value is not None}
