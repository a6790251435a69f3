"""What becomes of videos that are cut, damaged, empty, or none?"""

import warnings
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_array_equal

import ndzarr
from helpers import video_clips
from helpers.errors import raises
from ndzarr.cli import main
from ndzarr.errors import DamagedVideoWarning, SourceError, StoreError

LONG = {"g": "12", "bf": "2", "sc_threshold": "0"}
CUT = {
    "h264.mp4": {"codec": "libx264", "options": LONG, "muxer": {"movflags": "faststart"}},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "h264.mkv": {"codec": "libx264", "options": LONG},
    "ffv1.mkv": {"codec": "ffv1"},
    "h264.flv": {"codec": "libx264", "options": LONG},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": LONG, "form": "mpeg"},
}


def cut(path, fraction):
    """Keep the beginning of a file."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * fraction)])
    return path


@pytest.mark.parametrize("name", CUT)
def test_a_broken_tail_keeps_the_frames_before_it_and_says_so(name, tmp_path):
    path = video_clips.encode(tmp_path / name, **CUT[name])
    whole = [video_clips.converted(frame) for frame in video_clips.decoded(path)]
    cut(path, 0.7)
    with pytest.warns(DamagedVideoWarning, match=name) as said:
        stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    assert len(said) == 1
    pixels = stored.read()
    numbers = video_clips.numbers(pixels)
    assert 5 < len(numbers) < 40
    assert numbers == sorted(set(numbers))
    assert_array_equal(pixels, [whole[k] for k in numbers])
    notes = stored.attrs["ndzarr"]["source"]["notes"]
    assert all(note in str(said[0].message) for note in notes)

    with pytest.warns(DamagedVideoWarning, match=name):
        opened = ndzarr.open(path)
    assert_array_equal(opened.read(), pixels)
    assert opened.attrs["ndzarr"]["source"]["notes"] == notes


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.ts", "hevc.ts"])
def test_a_recording_that_begins_between_key_frames_begins_where_it_can_be_decoded(name, tmp_path):
    codec, options = {
        "h264.ts": ("libx264", {"x264-params": "keyint=12:bframes=3:open-gop=1:scenecut=0"}),
        "mpeg2.ts": ("mpeg2video", LONG),
        "hevc.ts": ("libx265", {"x265-params": "keyint=12:open-gop=1:log-level=none", "preset": "ultrafast"}),
    }[name]
    if not video_clips.can_encode(codec):
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    if name == "hevc.ts" and av.library_versions["libavcodec"] < (62,):
        pytest.skip("FFmpeg 7 makes up references that are missing")
    path = video_clips.encode(tmp_path / name, codec, n=60, options=options)
    whole = [video_clips.converted(frame) for frame in video_clips.decoded(path)]
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[len(data) // 188 * 3 // 10 * 188 :])
    stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    numbers = video_clips.numbers(stored.read())
    assert numbers == list(range(numbers[0], 60))
    assert 0 < numbers[0] < 40
    assert_array_equal(stored.read(), whole[numbers[0] :])
    opened = ndzarr.open(path)
    assert opened.shape == stored.shape
    assert_array_equal(opened.read(t=slice(5, 9)), stored.read(t=slice(5, 9)))


@pytest.mark.parametrize("name", ["h264.mp4", "mjpeg.mov"])
def test_packets_that_do_not_decode_are_left_out_and_counted(name, tmp_path):
    codec, pix_fmt = ("libx264", "yuv420p") if name == "h264.mp4" else ("mjpeg", "yuvj420p")
    path = video_clips.encode(tmp_path / name, codec, pix_fmt=pix_fmt, options={"g": "1"} if codec == "libx264" else {})
    with av.open(path) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(Path(path).read_bytes())
    for k in (11, 25):
        pos, size = packets[k]
        data[pos : pos + size] = bytes(size)
    Path(path).write_bytes(data)
    with pytest.warns(DamagedVideoWarning, match="2 of its packets do not decode"):
        stored = ndzarr.transcode(path, tmp_path / "a.zarr")
    rest = [k for k in range(40) if k not in (11, 25)]
    assert video_clips.numbers(stored.read()) == rest
    assert stored.times == pytest.approx([k / 25 for k in rest])


def test_damage_in_the_middle_is_an_error_where_frames_are_read_in_place(tmp_path):
    path = video_clips.encode(tmp_path / "a.mov", "mjpeg", n=120, pix_fmt="yuvj420p")
    with av.open(path) as container:
        pos, size = [(p.pos, p.size) for p in container.demux(video=0) if p.size][60]
    data = bytearray(Path(path).read_bytes())
    data[pos : pos + size] = bytes(size)
    Path(path).write_bytes(data)
    opened = ndzarr.open(path)
    assert video_clips.numbers(opened.read(t=slice(50, 60))) == list(range(50, 60))
    assert video_clips.numbers(opened.read(t=slice(61, 70))) == list(range(61, 70))
    with raises(SourceError, hint="ndzarr.transcode keeps", match=r"frame 60, at 2.4 s"):
        opened.read(t=slice(55, 65))


def test_an_avi_without_an_index_is_complete(tmp_path):
    path = video_clips.encode(tmp_path / "a.avi", "mpeg4", options={"g": "12"})
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: data.index(b"idx1")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedVideoWarning)
        stored, opened = ndzarr.transcode(path, tmp_path / "a.zarr"), ndzarr.open(path)
    assert video_clips.numbers(stored.read()) == list(range(40))
    assert_array_equal(opened.read(t=slice(13, 20)), stored.read(t=slice(13, 20)))


def sound(path, codec="aac"):
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), "f4"), format="fltp", layout="mono")
        frame.rate, frame.pts = 48000, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return str(path)


def without_frames(path):
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 160, "yuv420p"
        out.start_encoding()
    return str(path)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("sound.m4a", sound, "holds audio, but no video"),
        ("sound.mka", sound, "holds audio, but no video"),
        ("empty.mp4", without_frames, "no video"),
        ("empty.mkv", without_frames, "no (video|frame)"),
        ("unfinished.mp4", lambda path: cut(video_clips.encode(path), 0.7), "incomplete"),
        ("noise.mkv", lambda path: path.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 9), "FFmpeg finds no"),
        ("noise.ts", lambda path: path.write_bytes((b"\x47" + bytes(187)) * 99), "no"),
    ],
)
def test_what_holds_no_video_is_an_error_that_names_the_file(name, make, said, tmp_path):
    make(tmp_path / name)
    with raises(SourceError, path=tmp_path / name, match=said):
        ndzarr.transcode(tmp_path / name, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    with raises(StoreError, path=tmp_path / name):
        ndzarr.open(tmp_path / name)


def test_frames_of_other_sizes_are_an_error_unless_one_size_is_asked_for(tmp_path):
    parts = [video_clips.encode(tmp_path / f"{k}.ts", n=20, size=size) for k, size in enumerate([(64, 160), (96, 176)])]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(Path(p).read_bytes() for p in parts))
    with raises(SourceError, hint="size=", match="160 x 64 to 176 x 96"):
        ndzarr.transcode(path, tmp_path / "a.zarr")
    stored = ndzarr.transcode(path, tmp_path / "a.zarr", size=(64, 160))
    assert stored.shape == (40, 3, 64, 160)
    assert video_clips.numbers(stored.read(t=slice(0, 20))) == list(range(20))


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_give_a_store_or_an_error_of_ours(seed, tmp_path):
    rng = np.random.default_rng(seed)
    for k, name in enumerate(CUT):
        path = video_clips.encode(tmp_path / name, n=15, **CUT[name])
        data = np.frombuffer(Path(path).read_bytes(), np.uint8).copy()
        hit = rng.integers(0, len(data), 1 + len(data) // 500)
        data[hit] = rng.integers(0, 256, len(hit))
        Path(path).write_bytes(data.tobytes())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedVideoWarning)
            with suppress(ndzarr.NdzarrError):
                stored = ndzarr.transcode(path, tmp_path / f"{k}.zarr")
                assert stored.shape[0] == len(stored.times) == len(stored.read())
                ndzarr.open(path).read(t=slice(3, 5), y=slice(0, 8))


def test_the_command_line_says_it_in_one_line(tmp_path):
    path = cut(video_clips.encode(tmp_path / "a.mkv", "ffv1"), 0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = CliRunner().invoke(main, ["transcode", path, "-o", str(tmp_path / "a.zarr")])
    assert result.exit_code == 0, result.output
    assert f"Warning: {path}: its header promises 1.6 s" in result.stderr
    assert "DamagedVideoWarning" not in result.stderr


def test_an_encrypted_mp4_is_called_encrypted(tmp_path):
    key = "00112233445566778899aabbccddeeff"
    muxer = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    path = video_clips.encode(tmp_path / "a.mp4", n=10, muxer=muxer)
    other = tmp_path / "b.mp4"  # which FFmpeg does not open
    other.write_bytes(Path(path).read_bytes().replace(b"\0\0\0\x14schm", b"\xff\xff\xff\xffschm"))
    for encrypted in (path, other):
        with raises(StoreError, path=encrypted, hint="Decrypt it", match="encrypted"):
            ndzarr.open(encrypted)
        with raises(SourceError, path=encrypted, hint="Decrypt it", match="encrypted"):
            ndzarr.transcode(encrypted, tmp_path / "a.zarr")


def test_a_scrambled_transport_stream_is_called_scrambled(tmp_path):
    path = video_clips.encode(tmp_path / "a.ts", n=10)
    data = np.frombuffer(bytearray(Path(path).read_bytes()), np.uint8).reshape(-1, 188)
    pictures = (data[:, 1] & 0x1F == 1) & (data[:, 2] == 0)  # packets with the identifier 0x100
    data[pictures, 3] |= 0x80
    data[pictures, 20:] ^= 0x5A
    Path(path).write_bytes(data.tobytes())
    with raises(SourceError, path=path, hint="Decrypt it", match="scrambled"):
        ndzarr.transcode(path, tmp_path / "a.zarr")


def test_warnings_about_damage_point_at_the_line_of_the_caller(tmp_path):
    path = cut(video_clips.encode(tmp_path / "a.mkv", options=LONG), 0.7)
    sampler = ndzarr.Sampler({"clip": path}, workdir=tmp_path / "work", transcode="never")
    for call in (
        lambda: ndzarr.open(path),
        lambda: ndzarr.transcode(path, tmp_path / "a.zarr"),
        lambda: sampler.load_sample({"key": "clip", "time_slice": slice(0, 2)}),
    ):
        with pytest.warns(DamagedVideoWarning) as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}
