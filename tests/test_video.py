import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from clips import drift, rotate_by_metadata, texture, write_clip, write_sound

from detector.errors import UserError
from detector.settings import Settings
from detector.video import Clip, Recoder, read_frames, read_image

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
        path.write_text("This is no video. " * 100)
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
        list(read_frames(path, limits=Settings(**limits)))
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
