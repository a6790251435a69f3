"""Are all frames of a video there, each once, in order, with PyAV's own pixels and timestamps?"""

import warnings
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.testing import assert_allclose

import ndzarr
from helpers import video_clips
from helpers.arrays import assert_same
from helpers.errors import raises
from ndzarr.errors import SourceError

LONG = {"g": "12", "bf": "2", "sc_threshold": "0"}
FAST = {"deadline": "realtime", "cpu-used": "8", "g": "12"}

CONTAINERS = {
    "h264.mp4": {"codec": "libx264", "options": LONG},
    "open-gop.mp4": {"codec": "libx264", "options": {"x264-params": "keyint=12:bframes=3:open-gop=1:scenecut=0"}},
    "refresh.mkv": {"codec": "libx264", "options": {"x264-params": "intra-refresh=1:keyint=12"}},
    "h264.ts": {"codec": "libx264", "options": LONG},
    "h264.flv": {"codec": "libx264", "options": LONG},
    "h264.avi": {"codec": "libx264", "options": LONG},
    "h264.h264": {"codec": "libx264", "options": LONG, "form": "h264"},
    "interlaced.mkv": {"codec": "libx264", "options": {"x264-params": "interlaced=1:keyint=12", "flags": "+ildct"}},
    "hevc-open-gop.mkv": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=12:open-gop=1:log-level=none", "preset": "ultrafast"},
    },
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "mpeg4-b.avi": {"codec": "mpeg4", "options": {"g": "12", "bf": "2"}},
    "vp8.webm": {"codec": "libvpx", "options": FAST},
    "vp9.webm": {"codec": "libvpx-vp9", "options": FAST | {"lag-in-frames": "10", "auto-alt-ref": "1"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12", "g": "12"}},
    "ffv1.mkv": {"codec": "ffv1"},
    "ffv1-10.mkv": {"codec": "ffv1", "pix_fmt": "yuv422p10le"},
    "ffv1-gray10.mkv": {"codec": "ffv1", "pix_fmt": "gray10le"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj422p"},
    "mpeg2.ts": {"codec": "mpeg2video", "options": LONG},
    "mpeg1.mpg": {"codec": "mpeg1video", "options": LONG, "form": "mpeg"},
    "wmv2.wmv": {"codec": "wmv2", "options": {"g": "12"}},
    "flv1.flv": {"codec": "flv", "options": {"g": "12"}},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "animation.mov": {"codec": "qtrle", "pix_fmt": "argb"},
    "h263.avi": {"codec": "h263p", "options": {"g": "12"}},
    "rpza.mov": {"codec": "rpza", "pix_fmt": "rgb555le"},
    "raw.y4m": {"codec": "wrapped_avframe", "form": "yuv4mpegpipe"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Encode a clip when it is first asked for."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name):
        kwargs = CONTAINERS[name]
        if not video_clips.can_encode(kwargs["codec"]):
            pytest.skip(f"this FFmpeg has no encoder {kwargs['codec']}")
        path = folder / name
        return str(path) if path.exists() else video_clips.encode(path, **kwargs)

    return make


@pytest.mark.parametrize("name", CONTAINERS)
def test_all_frames_are_there_once_and_in_order_with_pyavs_pixels(made, name, tmp_path):
    path = made(name)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    pixels = stored.read()
    assert video_clips.numbers(pixels) == list(range(40))
    assert_same(pixels, [video_clips.converted(frame) for frame in video_clips.decoded(path)])

    opened = ndzarr.open(path)
    assert (opened.dims, opened.shape, opened.dtype, opened.channels) == (
        (stored.dims, stored.shape, stored.dtype, stored.channels)
    )
    assert opened.times == stored.times
    assert_same(opened.read(), pixels)
    assert len(opened.levels) == 1
    assert "video decoder" in str(opened.plan([{}]).explain())


@pytest.mark.parametrize("name", CONTAINERS)
def test_windows_in_any_order_are_those_of_the_store(made, name):
    opened = ndzarr.open(made(name))
    whole = opened.read()
    rng = np.random.default_rng(0)
    windows = []
    for _ in range(25):
        t, y, x = (int(rng.integers(n)) for n in (40, 64, 160))
        h, w, n, step = (int(rng.integers(1, m)) for m in (64, 160, 12, 4))
        windows.append({"t": slice(t, t + n, step), "y": slice(y, y + h), "x": slice(x, x + w)})
    again = ndzarr.open(made(name))
    for window in windows:
        assert_same(again.read(**window), whole[window["t"], :, window["y"], window["x"]])
    fresh = ndzarr.open(made(name))
    for window, pixels in zip(windows, fresh.read_many(windows), strict=True):
        assert_same(pixels, whole[window["t"], :, window["y"], window["x"]])


@pytest.mark.parametrize("name", ["h264.mp4", "h264.ts", "vp9.webm", "mpeg4.avi", "mpeg1.mpg", "ffv1.mkv"])
def test_timestamps_are_those_of_the_stream_in_seconds(made, name, tmp_path):
    times = ndzarr.transcode(made(name), tmp_path / "a.zarr").times
    assert times == pytest.approx([frame.time for frame in video_clips.decoded(made(name))], abs=1e-9)


@pytest.mark.parametrize(
    ("name", "first"), [("h264.avi", 1 / 25), ("h264.h264", 0.0)], ids=["out of order", "without any"]
)
def test_timestamps_that_are_wrong_become_even_ones_and_the_store_says_so(made, name, first, tmp_path):
    stored = ndzarr.transcode(made(name), tmp_path / "a.zarr")
    assert stored.times == pytest.approx(np.arange(40) / 25 + first, abs=1e-9)
    assert "timestamp" in stored.attrs["ndzarr"]["source"]["notes"][0]


def test_variable_frame_rates_and_late_beginnings_are_kept(tmp_path):
    ticks = [5000 + 40 * i + (7 * i) % 13 + 500 * (i > 15) for i in range(30)]
    path = video_clips.encode(tmp_path / "a.mkv", n=30, ticks=ticks, options=LONG)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert stored.times == tuple(t / 1000 for t in ticks)
    assert ndzarr.open(path).times == stored.times
    assert video_clips.numbers(stored.read()) == list(range(30))
    assert stored.to_xarray().t.values.tolist() == [t / 1000 for t in ticks]


def test_edit_lists_hide_frames(tmp_path):
    path = video_clips.encode(tmp_path / "a.mp4", n=40, options=LONG)
    video_clips.patch_edit_list(path, first_shown=10)
    shown = video_clips.decoded(path)
    assert len(shown) < 40, "the edit list is not understood by FFmpeg, so this tests nothing"
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert_same(stored.read(), [video_clips.converted(frame) for frame in shown])
    opened = ndzarr.open(path)
    assert_same(opened.read(), stored.read())
    assert opened.times == stored.times


@pytest.mark.parametrize("size", [(63, 161), (33, 170)])
@pytest.mark.parametrize("name", ["a.webm", "a.mkv"])
def test_odd_sizes(name, size, tmp_path):
    codec, options = ("libvpx-vp9", FAST) if name == "a.webm" else ("ffv1", {})
    path = video_clips.encode(tmp_path / name, codec, n=12, size=size, options=options)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert stored.shape == (12, 3, *size)
    assert_same(stored.read(), [video_clips.converted(frame) for frame in video_clips.decoded(path)])
    window = {"t": slice(3, 9), "y": slice(5, 20), "x": slice(100, 161)}
    assert_same(ndzarr.open(path).read(**window), stored.read(**window))


def test_headers_that_lie_about_the_number_of_frames_are_not_believed(tmp_path):
    path = video_clips.encode(tmp_path / "a.avi", "mpeg4", options={"g": "12"})
    video_clips.patch_avi_length(path, 25)
    with av.open(path) as container:
        assert container.streams.video[0].frames == 25
    assert ndzarr.transcode(path, tmp_path / "a.zarr").shape[0] == 40
    assert ndzarr.open(path).shape[0] == 40


def test_of_two_videos_ffmpegs_choice_is_taken(tmp_path):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = []
        for size in ((32, 160), video_clips.SIZE):
            stream = out.add_stream("ffv1", rate=25)
            stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
            streams.append(stream)
        for i in range(10):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(
                    video_clips.picture(i, (stream.height, stream.width)), format="rgb24"
                )
                frame = frame.reformat(format="yuv420p")
                frame.pts = i
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode())
    with av.open(str(path)) as container:
        best = container.streams.best("video").index
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert_same(stored.read(), [video_clips.converted(f) for f in video_clips.decoded(path, best)])
    assert stored.attrs["ndzarr"]["source"]["other_video_streams"] == 1


@pytest.mark.parametrize("name", ["h263.avi", "rpza.mov"])
def test_decoding_does_not_begin_at_packets_that_are_no_keys_whatever_the_container_says(made, name):
    path = made(name)
    with av.open(path) as container:
        keys = sum(packet.is_keyframe for packet in container.demux(video=0))
    assert keys == 40, "the container calls all of them keys, or this tests nothing"
    truth = [video_clips.converted(frame) for frame in video_clips.decoded(path)]
    for k in (5, 23, 39):
        assert_same(ndzarr.open(path).read(t=slice(k, k + 1))[0], truth[k])


@pytest.mark.filterwarnings("ignore::ndzarr.errors.DamagedVideoWarning")  # FFmpeg ends GXF with an error
@pytest.mark.parametrize(
    ("form", "codec", "options"),
    [
        ("gxf", "dvvideo", {"size": (576, 720)}),
        ("obu", "libsvtav1", {"options": {"preset": "12"}}),
        ("film_cpk", "cinepak", {"pix_fmt": "rgb24"}),
        ("dnxhd", "dnxhd", {"size": (720, 1280), "pix_fmt": "yuv422p", "options": {"b": "90M"}}),
        ("roq", "roqvideo", {"size": (64, 256), "pix_fmt": "yuvj444p", "rate": 30}),
        ("mxf", "mpeg2video", {}),
        ("nut", "ffv1", {}),
        ("asf", "wmv1", {}),
    ],
)
def test_containers_that_few_people_use_are_known_too(form, codec, options, tmp_path):
    if not video_clips.can_encode(codec):
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    path = video_clips.encode(tmp_path / "clip", codec, n=6, form=form, **options)
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert_same(stored.read(), [video_clips.converted(frame) for frame in video_clips.decoded(path)])
    assert_same(ndzarr.open(path).read(t=slice(2, 5)), stored.read(t=slice(2, 5)))


def test_gifs_stay_with_pillow_whose_colours_are_exact(tmp_path):
    path = video_clips.encode(tmp_path / "a.gif", "gif", n=12, pix_fmt="rgb8")
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert video_clips.numbers(stored.read()) == list(range(12))
    assert stored.attrs["ndzarr"]["source"]["format"] == "GIF"


def test_nothing_is_said_of_a_video_that_is_in_order(made, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ndzarr.transcode(made("h264.mp4"), tmp_path / "a.zarr")
        ndzarr.open(made("h264.mp4"))


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_webm_with_alpha_has_a_fourth_channel(codec, tmp_path):
    picture = np.zeros((64, 96, 4), "u1")
    picture[..., 0], picture[:, :48, 3] = 200, 255
    frames = [av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="yuva420p") for _ in range(8)]
    options = FAST | {"auto-alt-ref": "0", "lag-in-frames": "0"}  # what encoders with alpha ask for
    path = video_clips.encode(
        tmp_path / "a.webm", codec, size=(64, 96), pix_fmt="yuva420p", options=options, frames=frames
    )
    opened = ndzarr.open(path)
    assert opened.channels == ("r", "g", "b", "a")
    assert opened.read(t=slice(3, 4), c=slice(3, 4))[0, 0, 20, [5, 90]].tolist() == [255, 0]
    assert_same(ndzarr.transcode(path, tmp_path / "a.zarr").read(), opened.read())
    assert ndzarr.transcode(path, tmp_path / "rgb.zarr", channels="rgb").channels == ("r", "g", "b")


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
@pytest.mark.parametrize("transcode", ["never", "always"])
def test_alpha_of_webm_tells_which_pixels_are_real(codec, transcode, tmp_path):
    picture = np.zeros((64, 96, 4), "u1")
    picture[..., 0], picture[:, :48, 3] = 200, 255
    frames = [av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="yuva420p") for _ in range(4)]
    options = FAST | {"auto-alt-ref": "0", "lag-in-frames": "0"}
    path = video_clips.encode(
        tmp_path / "a.webm", codec, size=(64, 96), pix_fmt="yuva420p", options=options, frames=frames
    )
    sampler = ndzarr.Sampler({"a": path}, tmp_path / "w", transcode=transcode)
    where = {"key": "a", "y": slice(0, 64), "x": slice(0, 96), "time_slice": slice(0, 3), "channels": "r|g|b"}
    opened = ndzarr.open(path)
    for scale in (1, 0.5):
        alpha = opened.window(scale=scale, t=slice(0, 3), c=["a"]).values  # lossy: some of what was hidden is not 0
        for sample in (sampler.load_sample(where, scale=scale), sampler.load_batch([where], scale=scale)):
            valid = np.broadcast_to(sample.valid, sample.image.shape)
            assert np.array_equal(valid, np.broadcast_to(alpha > 0, valid.shape))
            assert 0.4 < valid.mean() < 0.8


@pytest.mark.parametrize("parts", [2, 3])
def test_joined_transport_streams_go_on_where_timestamps_begin_anew(parts, tmp_path):
    one = video_clips.encode(tmp_path / "one.ts", n=40, options=LONG)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(Path(one).read_bytes() * parts)
    frames, first = video_clips.decoded(joined), video_clips.decoded(one)[0].time
    opened = ndzarr.open(joined)
    assert video_clips.numbers(opened.read()) == [video_clips.number(video_clips.converted(frame)) for frame in frames]
    assert_allclose(opened.times, first + np.arange(len(frames)) / 25, atol=1e-9)
    assert "begin anew" in opened.attrs["ndzarr"]["source"]["notes"][-1]
    assert ndzarr.transcode(joined, tmp_path / "a.zarr").times == opened.times


@pytest.mark.parametrize(("name", "form"), [("%d.bmp", "image2"), ("a.ogg", "sdp")])
def test_what_ffmpeg_takes_for_a_list_of_other_files_is_refused(name, form, tmp_path):
    clip = Path(video_clips.encode(tmp_path / "0.mkv", "ffv1", 2)).rename(tmp_path / "0.bmp")
    path = tmp_path / name
    path.write_bytes(clip.read_bytes() if form == "image2" else b"OggS\nc=IN IP4 127.0.0.1\n")
    with av.open(str(path)) as found:
        assert found.format.name == form
    with raises(SourceError, path=path, match="no video"):
        ndzarr.transcode(path, tmp_path / "out.zarr")
