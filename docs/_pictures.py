"""Make the pictures of the site and of README.md from generated data: `python docs/_pictures.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

import ndzarr
import ndzarr.toydata
import ndzarr.viz

FOLDER = Path(__file__).parent / "pictures"
EDGE, GAP = 320, 10


def overview(sampler: ndzarr.Sampler | ndzarr.CocoSampler) -> Image.Image:
    """Return a scene with four windows on it, and what `load_sample` returns for them."""
    table = sampler.targets.positives((96, 96), jitter=0.3, seed=3)
    rows = [row for row in table.to_dict("records") if row["gid"] == 1][:4]
    scene = Image.fromarray(sampler.load_sample(gid=1, channels="r|g|b").image.transpose("y", "x", "c").values)
    side = 2 * EDGE + GAP
    factor = side / scene.height
    scene = scene.resize((round(scene.width * factor), side), Image.Resampling.LANCZOS)
    sheet = Image.new("RGB", (scene.width + 2 * (EDGE + GAP), side), "#0f172a")
    sheet.paste(scene)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        left, top = row["cx"] - row["width"] / 2, row["cy"] - row["height"] / 2
        box = [round(v * factor) for v in (left, top, left + row["width"], top + row["height"])]
        pen.rectangle(box, outline="#5eead4", width=3)
        drawn = sampler.load_sample(row, channels="r|g|b").ndzarr.draw(scale=EDGE / row["width"]).convert("RGB")
        x, y = scene.width + GAP + number % 2 * (EDGE + GAP), number // 2 * (EDGE + GAP)
        sheet.paste(drawn.resize((EDGE, EDGE)), (x, y))
        pen.text((box[0] + 6, box[1] + 4), str(number + 1), fill="#5eead4")
        pen.rectangle([x, y, x + EDGE - 1, y + EDGE - 1], outline="#5eead4", width=2)
    return sheet


def main() -> None:
    """Write all pictures."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = ndzarr.toydata.write_demo(Path(folder, "demo"))
        sampler = ndzarr.CocoSampler(dataset, workdir=Path(folder, "work"))
        overview(sampler).save(FOLDER / "overview.webp", quality=80)
        sample = sampler.load_sample({"gid": 1, "cx": 200, "cy": 200, "width": 256, "height": 256})
        around = sampler.targets.positives((96, 96), seed=1)
        batch = sampler.load_batch(around[:12], channels="r|g|b", dtype="uint16")
        batch.ndzarr.draw(columns=6, scale=2).save(FOLDER / "sheet.webp", quality=80)
        table = sampler.targets.grid((128, 128))
        ndzarr.viz.draw_targets(sampler, table[table.gid == 1]).save(FOLDER / "targets.webp", quality=80)
        sample.ndzarr.draw(scale=2.5).convert("RGB").save(FOLDER / "sample.webp", quality=80)


if __name__ == "__main__":
    main()
