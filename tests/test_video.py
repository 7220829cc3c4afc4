import contextlib
import itertools
import os
import struct
import time as clock
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import PIL.Image
import pytest
from clips import drift, read_frames, rotate_by_metadata, texture, write_clip, write_sound

from detector.decoder import warn_of_fewer
from detector.errors import UserError
from detector.settings import Settings
from detector.video import Clip, Recoder, read_image

FORMATS = [
    ("clip.mp4", "libx264", "yuv420p"),
    ("clip.mov", "libx264", "yuv420p"),
    ("clip.mkv", "libx265", "yuv420p10le"),
    ("clip.webm", "libvpx-vp9", "yuv420p"),
    ("clip.avi", "mpeg4", "yuv420p"),
    ("motion.avi", "mjpeg", "yuvj420p"),
    ("clip.mov", "prores_ks", "yuv422p10le"),
    ("clip.gif", "gif", "rgb8"),
    ("av1.mp4", "libsvtav1", "yuv420p"),
    ("clip.mpg", "mpeg2video", "yuv420p"),
]


def frames_of(width: int = 160, height: int = 120, count: int = 10) -> list[np.ndarray]:
    return drift(texture(1, width + 40, height + 20), count, width, height, speed=2)


@pytest.mark.parametrize(("name", "codec", "pixels"), FORMATS, ids=lambda v: str(v))
def test_opens_what_people_have(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_clip(tmp_path / name, frames_of(), codec=codec, pixels=pixels, options=options)
    clip = Clip(path)
    frames = list(clip)
    assert [f.index for f in frames] == list(range(10))
    assert frames[0].image.shape == (120, 160, 3)
    assert clip.info.frames == 10
    times = [f.time for f in frames]
    assert times[0] == pytest.approx(0, abs=0.05)
    assert times == sorted(set(times))
    expected = frames_of()[5].astype(float)
    assert np.abs(frames[5].image - expected).mean() < (25 if codec == "gif" else 15)


def test_odd_sizes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "odd.mkv", frames_of(161, 121), codec="ffv1", pixels="bgr0")
    assert next(iter(read_frames(path))).image.shape == (121, 161, 3)


def test_times_follow_a_variable_rate(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 540, 1200, 1240, 1280, 2000, 2040]
    path = write_clip(tmp_path / "vfr.mkv", frames_of(), times=times, options={"bf": "0"})
    assert [f.time for f in read_frames(path)] == pytest.approx([t / 1000 for t in times], abs=2e-3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_clips_come_upright(tmp_path: Path, degrees: int) -> None:
    upright = frames_of(160, 120)
    stored = [np.ascontiguousarray(np.rot90(f, degrees // 90)) for f in upright]
    path = write_clip(tmp_path / "phone.mp4", stored)
    rotate_by_metadata(path, degrees)
    clip = Clip(path)
    frames = list(clip)
    assert frames[0].image.shape == (120, 160, 3)
    assert (clip.info.width, clip.info.height, clip.info.rotation) == (160, 120, degrees)
    assert np.abs(frames[3].image - upright[3].astype(float)).mean() < 12


def test_one_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "one.mp4", frames_of(count=1))
    assert len(list(read_frames(path))) == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "heic"])
def test_still_images(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still.{suffix}"
    PIL.Image.fromarray(frames_of()[0]).save(path)
    clip = Clip(path)
    frames = list(clip)
    assert len(frames) == 1
    assert frames[0].image.shape == (120, 160, 3)
    assert clip.info.rate == Fraction(0)


def test_still_image_is_turned_as_its_exif_says(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(frames_of()[0]).save(tmp_path / "phone.jpg", exif=exif)
    assert read_image(tmp_path / "phone.jpg").shape == (160, 120, 3)


def test_long_clip_is_sampled_over_all_of_it(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "long.mp4", frames_of(count=500), rate=10, options={"g": "5", "bf": "0"}
    )
    clip = Clip(path, Settings(max_duration=10))
    times = [f.time for f in clip]
    assert "50 s" in clip.warnings[0]
    assert max(times) > 45
    assert np.diff(times).max() < 2


def test_frames_can_be_left_early(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames_of())
    clip = Clip(path)
    for _ in clip:
        break
    clip.close()
    path.unlink()


def bad_file(kind: str, folder: Path) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("This is no video. " * 100, encoding="utf-8")
    elif kind == "truncated":
        whole = write_clip(folder / "whole.mp4", frames_of(count=50))
        path.write_bytes(whole.read_bytes()[:2000])
    elif kind == "sound":
        write_sound(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "zero":
        write_clip(path, frames_of(count=1))
        data = path.read_bytes()
        at = data.index(b"mdat") + 4
        path.write_bytes(
            data[:at] + bytes(data.index(b"moov") - 4 - at) + data[data.index(b"moov") - 4 :]
        )
    elif kind == "pixels":
        write_clip(path, frames_of(640, 480, 2))
    elif kind == "bomb":
        PIL.Image.new("1", (16384, 16384)).save(path, "PNG")
    elif kind == "slow":
        write_clip(path, frames_of())
    return path


@pytest.mark.parametrize(
    ("kind", "code", "limits"),
    [
        ("missing", "missing_file", {}),
        ("folder", "not_a_file", {}),
        ("empty", "empty_file", {}),
        ("text", "unreadable_video", {}),
        ("truncated", "unreadable_video", {}),
        ("sound", "no_video_stream", {}),
        ("zero", "no_frames", {}),
        ("pixels", "frame_too_large", {"max_pixels": 100_000}),
        ("bomb", "frame_too_large", {}),
        ("text", "file_too_large", {"max_bytes": 100}),
        ("slow", "decode_timeout", {"max_decode_time": 1e-9}),
    ],
)
def test_bad_files(tmp_path: Path, kind: str, code: str, limits: dict[str, float]) -> None:
    path = bad_file(kind, tmp_path)
    with pytest.raises(UserError) as caught:
        list(read_frames(path, Settings(**limits)))
    assert caught.value.code == code


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames_of())
    path.chmod(0)
    with pytest.raises(UserError) as caught:
        list(read_frames(path))
    assert caught.value.code == "no_permission"


def test_no_permission_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames_of())
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UserError) as caught:
        Clip(path)
    assert caught.value.code == "no_permission"


def test_damage_in_the_middle_is_survived_and_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames_of(count=100), options={"g": "10", "crf": "10"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(bytes(data))
    clip = Clip(path)
    assert len(list(clip)) >= 50
    assert clip.warnings


def test_recoder_keeps_the_picture_and_its_size() -> None:
    picture = cv2.resize(texture(3), (101, 77))
    fine, coarse = (Recoder(crf).run([picture, picture])[-1] for crf in (16, 45))
    assert fine.shape == coarse.shape == picture.shape
    errors = [np.abs(c.astype(float) - picture).mean() for c in (fine, coarse)]
    assert errors[0] < errors[1] < 40


PLAYLIST = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{clip}\n"


def disguise(kind: str, folder: Path) -> Path:
    """Something that names another file or program, called a video."""
    clip = write_clip(folder / "secret.ts", frames_of())
    path = folder / "evil.mp4"
    if kind == "playlist":
        path.write_text(PLAYLIST.format(clip=clip) + "#EXT-X-ENDLIST\n", encoding="utf-8")
    elif kind == "endless playlist":
        path.write_text(PLAYLIST.format(clip=clip), encoding="utf-8")
    elif kind == "concat":
        path.write_text(f"ffconcat version 1.0\nfile {clip.name}\n", encoding="utf-8")
    elif kind == "dash":
        path.write_text(
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
            f'<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>'
            f"file:{clip}</BaseURL></Representation></AdaptationSet></Period></MPD>",
            encoding="utf-8",
        )
    elif kind == "sdp":
        path.write_text(
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n", encoding="utf-8"
        )
    elif kind == "PostScript":
        path.write_text(
            "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\nshow\n",
            encoding="utf-8",
        )
    elif kind == "subtitles":
        path.write_text(f"#EXTM3U\n#EXTINF:1,\nconcat:{clip}|{clip}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind",
    ["playlist", "endless playlist", "concat", "dash", "sdp", "PostScript", "subtitles"],
)
def test_a_file_that_names_others_is_refused(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disguise(kind, tmp_path)
    ran: list[object] = []
    monkeypatch.setattr("subprocess.check_call", lambda *a, **k: ran.append(a))
    began = clock.monotonic()
    with pytest.raises(UserError) as caught:
        list(read_frames(path))
    assert caught.value.code == "unreadable_video"
    assert clock.monotonic() - began < 5
    assert ran == []


def test_pictures_in_another_file_are_not_read(tmp_path: Path) -> None:
    """An mp4 whose data reference names a neighbour, and whose own pictures are gone."""
    path = write_clip(tmp_path / "clip.mp4", frames_of())
    data = path.read_bytes()
    (tmp_path / "secret.mp4").write_bytes(data)
    at = data.index(b"dref") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    name = b"\0\0\0\0" + b"secret.mp4\0"
    entry = (len(name) + 8).to_bytes(4, "big") + b"url " + name
    dref = b"dref" + bytes(4) + (1).to_bytes(4, "big") + entry
    grown = bytearray(data[:at] + (len(dref) + 4).to_bytes(4, "big") + dref + data[at + size :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = grown.index(box) - 4
        length = int.from_bytes(grown[start : start + 4], "big") + len(dref) + 4 - size
        grown[start : start + 4] = length.to_bytes(4, "big")
    media = grown.index(b"mdat") + 4
    end = media - 8 + int.from_bytes(grown[media - 8 : media - 4], "big")
    grown[media:end] = bytes(end - media)
    path.write_bytes(bytes(grown))
    with pytest.raises(UserError) as caught:
        list(read_frames(path))
    assert caught.value.code in ("no_frames", "unreadable_video")


@pytest.mark.parametrize("name", ["x" * 300 + ".mp4", "", "nul\0.mp4"], ids=["long", "none", "nul"])
def test_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(UserError) as caught:
        Clip(name)
    assert caught.value.code == "missing_file"


def test_damaged_pictures_are_unreadable_whatever_their_library_raises(tmp_path: Path) -> None:
    path = tmp_path / "damaged.avif"
    PIL.Image.fromarray(frames_of()[0]).save(path)
    data = path.read_bytes()
    rng = np.random.default_rng(3)
    for _ in range(40):
        mutant = bytearray(data)
        for at in rng.integers(40, len(data), 10):
            mutant[at] = rng.integers(256)
        path.write_bytes(bytes(mutant))
        with contextlib.suppress(UserError):  # of all others the test fails
            list(read_frames(path))


def claim_duration(path: Path, seconds: float) -> None:
    """Rewrite the duration in an mkv's header: element 0x4489, a float of eight bytes."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", seconds * 1000)
    path.write_bytes(bytes(data))


def test_a_duration_is_not_believed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "liar.mkv", frames_of(count=50))
    claim_duration(path, 9e12)
    clip = Clip(path)
    assert len(list(clip)) == 50
    assert clip.info.duration == pytest.approx(2.0, abs=0.05)
    assert clip.info.frames == 50


def test_a_rate_is_not_believed(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "liar.mkv", frames_of(count=25), codec="mjpeg", pixels="yuvj420p")
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83")  # nanoseconds a frame
    length = data[at + 3] & 0x0F
    lie = (2_000_000).to_bytes(length, "big")
    path.write_bytes(data[: at + 4] + lie + data[at + 4 + length :])
    clip = Clip(path)
    assert len(list(clip)) == 25
    assert float(clip.info.rate) == pytest.approx(25, rel=0.1)


def test_a_long_clip_says_how_many_frames_were_looked_at(tmp_path: Path) -> None:
    """One key picture alone: seeking would find that one frame again and again."""
    path = write_clip(
        tmp_path / "long.mp4", frames_of(count=600), rate=10, options={"g": "9999", "bf": "0"}
    )
    clip = Clip(path, Settings(max_duration=10))
    times = [f.time for f in clip]
    assert len(times) == len(set(times)) > 200
    assert max(times) > 59
    assert f"{len(times)} frames" in clip.warnings[0]


def test_what_was_decoded_in_time_is_kept_and_told(tmp_path: Path) -> None:
    clip = Clip(write_clip(tmp_path / "clip.mp4", frames_of(count=100)))
    frames = []
    for frame in clip:
        frames.append(frame)
        if len(frames) == 10:
            clip.until = 0.0
    assert 10 <= len(frames) < 100
    (told,) = clip.warnings
    assert told.startswith(f"Decoding was stopped after 600 s, the limit: {len(frames)} frames")
    assert "4 s that the file announces" in told
    assert clip.info.frames == len(frames)
    assert clip.info.duration == pytest.approx(len(frames) / 25, abs=0.05)


def test_a_long_clip_that_decodes_slowly_is_sampled_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "long.mp4", frames_of(count=600), rate=10, options={"g": "1"})
    clip = Clip(path, Settings(max_duration=10, max_decode_time=100))
    hours = itertools.count(clip.until - 100, 0.25)  # each look at the clock takes its time
    monkeypatch.setattr("detector.video.clock", SimpleNamespace(monotonic=lambda: next(hours)))
    times = [f.time for f in clip]
    assert 20 < len(times) < 200
    assert max(times) > 55
    assert max(np.diff(times)) < 6
    assert f"{len(times)} frames spread over all of it" in clip.warnings[0]


def test_fewer_key_frames_than_were_asked_for_are_told(tmp_path: Path) -> None:
    clip = Clip(write_clip(tmp_path / "clip.mp4", frames_of(count=20)), Settings(key_frames=8))
    assert len(list(clip)) == 20
    warn_of_fewer(clip, 8)
    assert clip.warnings == []
    warn_of_fewer(clip, 5)
    assert clip.warnings[0].startswith("5 key frames were looked at, not 8")
    with pytest.raises(UserError) as caught:
        warn_of_fewer(clip, 0)
    assert caught.value.code == "decode_timeout"


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for image in frames_of(count=3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    clip = Clip(path)
    frame = next(iter(clip))
    assert frame.image.shape == (120, 213, 3)
    assert (clip.info.width, clip.info.height) == (213, 120)
    assert frame.luma.shape == (90, 160)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"x264-params": "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"}, "HDR (PQ)"),
        ({"x264-params": "transfer=arib-std-b67"}, "HDR (HLG)"),
        ({"flags": "+ilme+ildct", "x264-params": "tff=1"}, "interlaced"),
    ],
    ids=["PQ", "HLG", "interlaced"],
)
def test_what_the_network_has_hardly_seen_is_said(
    tmp_path: Path, options: dict[str, str], said: str
) -> None:
    clip = Clip(write_clip(tmp_path / "clip.mp4", frames_of(), options=options))
    assert len(list(clip)) == 10
    assert [said in warning for warning in clip.warnings] == [True]


def test_usual_clips_are_not_warned_of(tmp_path: Path) -> None:
    clip = Clip(write_clip(tmp_path / "clip.mp4", frames_of()))
    list(clip)
    assert clip.warnings == []


def test_frames_that_no_other_needs_are_left_out_of_dense_clips(tmp_path: Path) -> None:
    frames = drift(texture(1, 240, 180), 120, 160, 120, speed=0.5)
    path = write_clip(
        tmp_path / "dense.mp4", frames, options={"bf": "3", "x264-params": "scenecut=0"}
    )
    every = {f.index: f for f in read_frames(path, Settings(key_frames=3, frames="all"))}
    clip = Clip(path, Settings(key_frames=3))
    some = list(clip)
    assert sorted(every) == list(range(120))
    assert 30 < len(some) < 90
    for frame in some:
        assert frame.time == every[frame.index].time
        assert np.array_equal(frame.luma, every[frame.index].luma)
    assert clip.info.frames == 120
    assert clip.warnings == []
    assert [f.index for f in read_frames(path)] == list(range(120))
    few = Settings(key_frames=32, frames="some")
    assert [f.index for f in read_frames(path, few)] == list(range(120))
    shorter = Settings(key_frames=12)  # too short to be thinned out, unless it is decoded twice
    assert len(list(Clip(path, shorter))) == 120
    twice = Clip(path, shorter)
    twice.decoded_twice = True
    assert [f.index for f in twice] == [f.index for f in some]


def test_small_images_are_those_of_the_large(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "turned.mp4", [texture(1, 320, 240)] * 3)
    rotate_by_metadata(path, 90)
    frame = next(iter(read_frames(path)))
    small = frame.shrink(80)
    assert small.shape == (80, 60, 3)
    large = cv2.resize(frame.image, (60, 80), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - large).mean() < 4
    assert frame.shrink(1000).shape == (320, 240, 3)
