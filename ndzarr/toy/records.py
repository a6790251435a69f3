"""How does kwcoco describe pictures of a world?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ndzarr.toy.camera import date
from ndzarr.toy.things import CATEGORIES, KEYPOINTS, PIXELS_PER_METRE
from ndzarr.toy.world import World

RESOLUTION = f"{1 / PIXELS_PER_METRE:g} meter"
"""Of a pixel of image space."""


@dataclass(frozen=True)
class Records:
    """A dataset that is being written down; ids count from 1."""

    about: Mapping[str, Any]
    """What it was made from."""
    videos: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)

    def add_video(self, world: World, name: str) -> int:
        """A video in whose space drift is undone; returns its id."""
        number = len(self.videos) + 1
        size = {"width": world.width, "height": world.height, "resolution": RESOLUTION}
        self.videos.append({"id": number, "name": name, **size})
        return number

    def add_image(self, world: World, name: str, **keys: Any) -> int:
        """A picture of a world, with its annotations; returns its id."""
        return self._add(world, 0, (0.0, 0.0), {"name": name, **keys})

    def add_frame(
        self, world: World, video: int, frame: int, drift: tuple[float, float], days: float, **keys: Any
    ) -> int:
        """A frame of a video, with its annotations and their tracks; returns its id."""
        name = f"{self.videos[video - 1]['name']}-{frame:03}"
        about = {"video_id": video, "frame_index": frame, "date_captured": date(frame, days)}
        warp = {"warp_img_to_vid": {"offset": list(drift)}} if any(drift) else {}
        return self._add(world, frame, drift, {"name": name, **about, **warp, **keys}, video)

    def content(self) -> dict[str, Any]:
        """Kwcoco's dictionary."""
        return {
            "info": [{"type": "ndzarr.toy", "properties": dict(self.about)}],
            "categories": [dict(c) for c in CATEGORIES],
            "keypoint_categories": [dict(k) for k in KEYPOINTS],
            "videos": self.videos,
            "images": self.images,
            "annotations": self.annotations,
        }

    def _add(
        self, world: World, frame: int, drift: tuple[float, float], image: dict[str, Any], video: int | None = None
    ) -> int:
        gid = len(self.images) + 1
        size = {"width": world.width, "height": world.height, "resolution": RESOLUTION}
        self.images.append({"id": gid, "file_name": None, **size, **image})
        for found in world.annotations(frame, drift):
            track = found.pop("track_id")
            tracked = {} if video is None else {"track_id": 1000 * video + track}
            self.annotations.append({"id": len(self.annotations) + 1, "image_id": gid, **found, **tracked})
        return gid
