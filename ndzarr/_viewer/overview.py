"""What a notebook shows of a sampler and of a table of targets: small pictures of images, with windows on them.

It is quick whatever the images are: local files that are open or have a store are shown by their coarsest level, and
others by their names.  Nothing is transcoded, and no URL is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import islice

import numpy as np
from PIL import Image, ImageDraw

from ndzarr._pyramid.repr import html_image, quick_level
from ndzarr._viewer.items import Item, Position, Source, items_of
from ndzarr._viewer.overlays import TargetWindows
from ndzarr._viewer.render import Display, rgb

SHOWN = 8
"""Most images that are shown."""
SIDE = 256
"""Longest side of a picture, in pixels."""
KIND_COLORS = {"positive": (45, 212, 191), "negative": (248, 113, 113), "ignored": (148, 163, 184)}
"""Column `kind` of a table to the colour of the window."""
OTHER_COLOR = (250, 204, 21)
BLANK = (226, 232, 240)
"""Instead of pixels that cannot be read quickly."""


def overview_html(title: str, source: Source, windows: TargetWindows | None = None) -> str:
    """Return the first images of a source, or the first of those that have windows, as an element of a page."""
    places: Iterable[tuple[Item, Position]]
    places = ((item, Position()) for item in items_of(source)) if windows is None else windows.places()
    few = list(islice(places, SHOWN + 1))
    figures = "".join(_figure(item, at, windows) for item, at in few[:SHOWN])
    more = "<span>&hellip;</span>" if len(few) > SHOWN else ""
    head = "<br>".join(map(escape, title.splitlines()))
    return f"<div>{head}<div style='display:flex;flex-wrap:wrap;gap:8px'>{figures}{more}</div></div>"


def _figure(item: Item, at: Position, windows: TargetWindows | None) -> str:
    caption = item.name
    picture = _picture(item, at)
    size = item.size if picture is not None else item.stated_size(at.t)
    if windows is not None and size is not None:
        height, width = size
        scale = min(1.0, SIDE / max(size))
        if picture is None:
            picture = Image.new("RGB", (max(1, round(width * scale)), max(1, round(height * scale))), BLANK)
        found = windows.of(item, at, (0, height), (0, width))
        draw_windows(picture, [(s["box"], s["kind"]) for s in found["shapes"]], picture.width / width)
        caption += ": " + ", ".join(f"{number} {kind}" for kind, number in found["kinds"].items())
    shown = "" if picture is None else html_image(picture)
    return f"<figure style='margin:0'>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def _picture(item: Item, at: Position) -> Image.Image | None:
    """Return the picture of a frame, at most `SIDE` pixels wide and high; None if it cannot be read quickly."""
    for t in {0, at.t}:  # contrast is that of the first frame
        for asset in item.frame(t).assets:
            pyramid = item.source.opened(asset)
            if pyramid is None or quick_level(pyramid) != len(pyramid.levels) - 1:
                return None
    height, width = item.size
    k = max(0, (max(height, width) - 1) // SIDE).bit_length()
    shown = [
        Display(c, channel.low, channel.high, rgb(channel.color))
        for c, channel in enumerate(item.channels)
        if channel.visible
    ]
    at = Position(at.t, item.planes // 2)
    pixels, valid = item.read(k, (0, -(-height >> k)), (0, -(-width >> k)), at, [show.channel for show in shown])
    picture = Image.fromarray(item.rendered(pixels, valid, shown))
    paper = Image.new("RGB", picture.size, "white")
    paper.paste(picture, mask=picture if picture.mode == "RGBA" else None)
    return paper


def draw_windows(picture: Image.Image, windows: Iterable[tuple[Iterable[float], str]], scale: float) -> None:
    """Outline windows (x, y, width, height), each with its kind, on a picture with `scale` pixels per native one."""
    pen = ImageDraw.Draw(picture)
    for box, kind in windows:
        x, y, width, height = np.array(list(box)) * scale
        pen.rectangle([x, y, x + width, y + height], outline=KIND_COLORS.get(kind, OTHER_COLOR), width=2)
