"""Write the drawings of the pages about concepts: `python docs/_drawings.py`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "pictures"
INK, SOFT, TEAL, SAND = "#475569", "#94a3b8", "#0d9488", "#d97706"


def svg(width: int, height: int, *parts: str) -> str:
    """Return a drawing on a light ground, which both colour schemes show."""
    ground = f'<rect width="{width}" height="{height}" rx="6" fill="#f8fafc"/>'
    style = f'font-family="ui-sans-serif,system-ui,sans-serif" font-size="13" fill="{INK}"'
    body = "\n".join([ground, *parts])
    box = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} {style}>\n{body}\n</svg>\n'


def grid(x: float, y: float, columns: int, rows: int, cell: float, colour: str = SOFT) -> str:
    """Return the lines of a grid of pixels."""
    right, bottom = x + columns * cell, y + rows * cell
    down = "".join(f"M{x + k * cell} {y}V{bottom}" for k in range(columns + 1))
    across = "".join(f"M{x} {y + k * cell}H{right}" for k in range(rows + 1))
    return f'<path d="{down}{across}" stroke="{colour}" fill="none"/>'


def box(x: float, y: float, width: float, height: float, colour: str) -> str:
    """Return a window."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}" fill-opacity=".18" '
        f'stroke="{colour}" stroke-width="2.5"/>'
    )


def text(x: float, y: float, words: str, anchor: str = "middle", colour: str = INK) -> str:
    """Return a line of text."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def window() -> str:
    """A window of a grid of pixels: borders, centres, half-open slices."""
    left, top, cell = 60, 46, 50
    numbers = [text(left + k * cell, top - 10, str(k)) for k in range(8)]
    numbers += [text(left + 7 * cell + 14, top + k * cell + 5, str(k)) for k in range(6)]
    inside = [
        f'<circle cx="{left + (x + 0.5) * cell}" cy="{top + (y + 0.5) * cell}" r="3" fill="{TEAL}"/>'
        for y in (1, 2)
        for x in (2, 3, 4)
    ]
    beyond = box(left - cell, top + 3 * cell, 2 * cell, 2 * cell, SAND)
    return svg(
        790,
        330,
        grid(left, top, 7, 5, cell),
        *numbers,
        box(left + 2 * cell, top + cell, 3 * cell, 2 * cell, TEAL),
        beyond,
        *inside,
        text(left + 3.5 * cell, 20, "x: borders of pixels"),
        text(470, 90, "y=slice(1, 3), x=slice(2, 5)", "start", TEAL),
        text(470, 112, "2 rows, 3 columns; the stops are outside", "start"),
        text(470, 142, "The first pixel has its centre at", "start"),
        text(470, 160, "y = 1.5, x = 2.5.", "start"),
        text(470, 210, "y=slice(3, 5), x=slice(-1, 1)", "start", SAND),
        text(470, 232, "reaches beyond the image: one column", "start"),
        text(470, 250, "is padded, and `valid` is False there", "start"),
    )


def levels() -> str:
    """Levels of a pyramid, and the pixels of the native one that a pixel of each covers."""
    parts = []
    x = 30.0
    for number, (count, cell) in enumerate(((16, 14), (8, 14), (4, 14))):
        side = count * cell
        parts += [grid(x, 40, count, count, cell)]
        parts += [text(x + side / 2, 30, f"level {number}: 1/{2**number}")]
        share = 8 // 2**number
        parts += [box(x + 4 // 2**number * cell, 40 + 4 // 2**number * cell, share * cell, share * cell, TEAL)]
        x += side + 40
    parts += [
        text(300, 190, "The same window of the scene at scale 1, 1/2 and 1/4:", "start", TEAL),
        text(300, 212, "8 x 8, 4 x 4 and 2 x 2 pixels are read, never more.", "start"),
        text(300, 240, "At scale 0.4 it is read from level 1, and resampled once.", "start"),
    ]
    return svg(740, 290, *parts)


def warps() -> str:
    """Assets of other resolutions, moved onto the grid of the image."""
    parts = [
        grid(30, 60, 8, 8, 16),
        text(94, 50, "asset r|g|b, 10 m"),
        grid(30, 230, 4, 4, 32, SAND),
        text(94, 222, "asset nir, 20 m", colour=SAND),
        f'<path d="M180 124C240 124 240 170 290 170M180 294C240 294 240 210 290 210" fill="none" stroke="{INK}" '
        f'stroke-width="1.5"/><path d="M284 165l8 5-8 5zM284 205l8 5-8 5z" fill="{INK}"/>',
        text(238, 110, "warp_aux_to_img"),
        grid(300, 110, 8, 8, 20),
        box(340, 150, 80, 60, TEAL),
        text(380, 100, "space of the image"),
        text(490, 150, "A target's window lies in the", "start"),
        text(490, 168, "space of the image (or video).", "start"),
        text(490, 198, "Each asset is read where the", "start"),
        text(490, 216, "window lies in it, and moved", "start"),
        text(490, 234, "onto the window's pixels.", "start"),
    ]
    return svg(720, 380, *parts)


if __name__ == "__main__":
    for draw in (window, levels, warps):
        (FOLDER / f"{draw.__name__}.svg").write_text(draw())
