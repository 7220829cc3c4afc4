"""A file -> what it is, and its frames in one pass, bounded in size and time.

The only importer of av.
"""

import io
import os
import stat
import time as clock
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
import av.logging
import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pillow_heif

from detector.errors import UserError
from detector.records import Frame, Image, VideoInfo
from detector.settings import Settings

av.logging.set_level(None)
pillow_heif.register_heif_opener()

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
CLIP_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts",
    ".m2ts", ".3gp", ".ogv", ".flv", ".wmv", ".mxf",
} | IMAGE_SUFFIXES  # fmt: skip
LUMA_SIDE = 160  # longest side in pixels of the brightness image that differences are taken on
DAMAGED_LIMIT = 10_000  # packets after which a file is given up
SAMPLED_FRAMES = 240  # frames decoded of a clip that is longer than the limit


def check_file(path: str | os.PathLike[str], settings: Settings) -> Path:
    """The path, if it is a file that may be opened; a UserError that says why not otherwise."""
    file = Path(path)
    try:
        status = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("missing_file", f"There is no file {file}.") from None
    except (PermissionError, OSError) as error:
        raise UserError("no_permission", f"{file} cannot be opened: {error.strerror}.") from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError("not_a_file", f"{file} is not a file.")
    if status.st_size == 0:
        raise UserError("empty_file", f"{file} is empty: was the download cut off?")
    if status.st_size > settings.max_bytes:
        raise UserError(
            "file_too_large",
            f"{file} has {status.st_size / 2**20:.0f} MiB, "
            f"the limit is {settings.max_bytes / 2**20:.0f} MiB. Cut out the part in question.",
        )
    if not os.access(file, os.R_OK):
        raise UserError("no_permission", f"{file} may not be read: check its permissions.")
    return file


def read_image(path: str | os.PathLike[str], settings: Settings | None = None) -> Image:
    """A still image, upright, RGB."""
    settings = settings or Settings()
    file = check_file(path, settings)
    try:
        with warnings.catch_warnings(), PIL.Image.open(file) as image:
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            check_pixels(image.width, image.height, settings)
            return _upright_rgb(image)
    except PIL.Image.DecompressionBombError:
        raise _too_large("hundreds of megapixels", settings) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise UserError("unreadable_video", f"{file} is no image that can be decoded.") from error


def _upright_rgb(image: PIL.Image.Image) -> Image:
    upright = PIL.ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA", "P"):
        upright = upright.convert("RGBA")
        ground = PIL.Image.new("RGBA", upright.size, "white")
        upright = PIL.Image.alpha_composite(ground, upright)
    if upright.mode.startswith(("I", "F")):
        grey = np.asarray(upright, np.float32)
        grey = grey * (255.0 / max(float(grey.max()), 1.0))
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    return np.array(upright.convert("RGB"))


def _too_large(size: str, settings: Settings) -> UserError:
    return UserError(
        "frame_too_large",
        f"The picture has {size}, more than the limit of "
        f"{settings.max_pixels / 1e6:.0f} megapixels. Export it smaller.",
    )


def check_pixels(width: int, height: int, settings: Settings) -> None:
    """Refuse a frame that is too large to decode."""
    if width * height > settings.max_pixels:
        raise _too_large(f"{width} x {height} pixels", settings)


def is_still(file: Path) -> bool:
    """Whether the content, whatever the name says, is a picture rather than a clip."""
    try:
        with warnings.catch_warnings(), PIL.Image.open(file) as image:
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            # A GIF is a clip; so is an animated WebP or PNG, of which the first frame is taken.
            return image.format not in ("GIF", "MPEG")
    except PIL.Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError, EOFError):
        return False


class Clip:
    """An opened file: what it is, and its frames in one pass. Closes itself after the last.

    `warnings` fills while frames are read.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.file = check_file(path, self.settings)
        self.warnings: list[str] = []
        self.metadata: dict[str, str] = {}
        self.frames_read = 0
        self._container: av.container.InputContainer | None = None
        self._still = read_image(self.file, self.settings) if is_still(self.file) else None
        if self._still is not None:
            height, width = self._still.shape[:2]
            codec = self.file.suffix.lstrip(".").lower() or "image"
            self.info = VideoInfo(str(self.file), width, height, Fraction(0), 0.0, 1, codec, 0)
            return
        self._container = self._open()
        try:
            self._stream = self._choose_stream()
            self.info = self._describe()
        except BaseException:
            self.close()
            raise

    def _open(self) -> "av.container.InputContainer":
        try:
            return av.open(str(self.file), metadata_errors="ignore")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                "unreadable_video",
                f"{self.file.name} is no video that can be decoded: it is damaged, cut off, or "
                "something else under this name.",
            ) from error

    def _choose_stream(self) -> "av.video.stream.VideoStream":
        assert self._container is not None
        for stream in self._container.streams.video:
            if not stream.disposition & av.stream.Disposition.attached_pic:
                stream.thread_type = "AUTO"
                return stream
        raise UserError(
            "no_video_stream", f"{self.file.name} holds no pictures, only sound or data."
        )

    def _describe(self) -> VideoInfo:
        container, stream = self._container, self._stream
        assert container is not None
        width, height = stream.codec_context.width, stream.codec_context.height
        check_pixels(width, height, self.settings)
        duration = 0.0
        if stream.duration and stream.time_base:
            duration = float(stream.duration * stream.time_base)
        elif container.duration:
            duration = container.duration / av.time_base
        self.metadata = {
            **{k: str(v) for k, v in container.metadata.items()},
            **{f"video {k}": str(v) for k, v in stream.metadata.items()},
            "format": container.format.name,
        }
        return VideoInfo(
            path=str(self.file),
            width=width,
            height=height,
            rate=stream.average_rate or stream.guessed_rate or Fraction(0),
            duration=max(0.0, duration),
            frames=stream.frames or None,
            codec=stream.codec_context.name,
            rotation=0,
        )

    def close(self) -> None:
        """Close the file; harmless when it is closed."""
        if self._container is not None:
            self._container.close()
            self._container = None

    def __iter__(self) -> Iterator[Frame]:
        try:
            if self._still is not None:
                still = self._still
                self.frames_read = 1
                yield Frame(0, 0.0, _reduce(still), lambda: still)
                return
            if self.info.duration > self.settings.max_duration:
                self.warnings.append(
                    f"The clip is {self.info.duration:.0f} s long, the limit is "
                    f"{self.settings.max_duration:.0f} s: {SAMPLED_FRAMES} frames spread evenly "
                    "over all of it were looked at."
                )
                decoded = self._sample()
            else:
                decoded = self._decode()
            for index, picture in decoded:
                yield self._make_frame(index, picture)
            if not self.frames_read:
                raise UserError(
                    "no_frames", f"{self.file.name} announces a video, but no frame decodes."
                )
            self._correct_info()
        finally:
            self.close()

    def _make_frame(self, index: int, picture: av.VideoFrame) -> Frame:
        check_pixels(picture.width, picture.height, self.settings)
        turn = int(picture.rotation) % 360
        if not self.frames_read:
            wide = turn % 180 == 0
            self.info = replace(
                self.info,
                width=picture.width if wide else picture.height,
                height=picture.height if wide else picture.width,
                rotation=-turn % 360,
            )
        self.frames_read += 1

        def load() -> Image:
            image = picture.to_ndarray(format="rgb24")
            return np.ascontiguousarray(np.rot90(image, turn // 90)) if turn else image

        scale = min(1.0, LUMA_SIDE / max(picture.width, picture.height))
        luma = picture.reformat(
            width=max(2, round(picture.width * scale)),
            height=max(2, round(picture.height * scale)),
            format="gray8",
            interpolation="AREA",
        ).to_ndarray()
        return Frame(index, self._time(index, picture), luma, load)

    def _time(self, index: int, picture: av.VideoFrame) -> float:
        if picture.pts is None or picture.time_base is None:
            return float(index / self.info.rate) if self.info.rate else 0.0
        start = self._stream.start_time or 0
        return max(0.0, float((picture.pts - start) * picture.time_base))

    def _decode(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Every frame, in order; what is damaged is left out and said."""
        assert self._container is not None
        began = clock.monotonic()
        damaged, index = 0, 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                pictures = packet.decode()
            except StopIteration:
                break
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError):
                damaged += 1
                if damaged > DAMAGED_LIMIT:
                    break
                continue
            damaged += bool(packet.is_corrupt)
            for picture in pictures:
                if clock.monotonic() - began > self.settings.max_decode_time:
                    raise UserError(
                        "decode_timeout",
                        f"Decoding took longer than {self.settings.max_decode_time:.0f} s. "
                        "Cut out the part in question.",
                    )
                if self._time(index, picture) > self.settings.max_duration:
                    self.warnings.append(
                        "The clip is longer than it says: only its first "
                        f"{self.settings.max_duration:.0f} s were looked at."
                    )
                    return
                yield index, picture
                index += 1
        if damaged:
            self.warnings.append(
                f"Parts of the file are damaged ({damaged} packets): what decodes was looked at."
            )

    def _sample(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames spread evenly over a long clip, found by seeking."""
        assert self._container is not None
        stream, began, last = self._stream, clock.monotonic(), None
        base = stream.time_base or Fraction(1, av.time_base)
        for number in range(SAMPLED_FRAMES):
            target = self.info.duration * (number + 0.5) / SAMPLED_FRAMES
            if clock.monotonic() - began > self.settings.max_decode_time:
                self.warnings.append("Decoding took too long: the end was not looked at.")
                return
            try:
                self._container.seek(int(target / base) + (stream.start_time or 0), stream=stream)
                picture = next(self._container.decode(stream))
            except (av.error.FFmpegError, StopIteration):
                continue
            if picture.pts == last:
                continue
            last = picture.pts
            yield round(self._time(number, picture) * float(self.info.rate or 25)), picture

    def _correct_info(self) -> None:
        """What reading all frames taught: how many there are, and whether the end is missing."""
        if self.info.duration > self.settings.max_duration:
            return
        announced = self.info.frames
        if announced and self.frames_read < 0.9 * announced:
            self.warnings.append(
                f"The file announces {announced} frames, {self.frames_read} of them decode: "
                "it may have been cut off."
            )
        self.info = replace(self.info, frames=self.frames_read)


def _reduce(image: Image) -> np.ndarray:
    scale = min(1.0, LUMA_SIDE / max(image.shape[:2]))
    size = max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def read_frames(path: str | os.PathLike[str], *, limits: Settings | None = None) -> Iterator[Frame]:
    """The frames of a clip or the one of a still image, in order, in one pass."""
    yield from Clip(path, limits)


def write_clip(images: Sequence[Image], *, rate: int = 25, crf: int = 23) -> bytes:
    """An mp4 file with h264 that every browser plays; the pictures are of one size."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        _encode(container, images, rate, {"crf": str(crf), "preset": "medium"}, 0)
    return buffer.getvalue()


def _encode(
    container: "av.container.OutputContainer",
    images: Sequence[Image],
    rate: int,
    options: dict[str, str],
    threads: int,
    codec: str = "libx264",
) -> None:
    """In yuv420p, which needs even sides: odd ones are padded."""
    height, width = images[0].shape[:2]
    below, right = height % 2, width % 2
    stream = cast(
        "av.video.stream.VideoStream", container.add_stream(codec, rate=rate, options=options)
    )
    stream.width, stream.height = width + right, height + below
    stream.pix_fmt = "yuv420p"
    stream.codec_context.thread_count = threads
    for image in images:
        if below or right:
            image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


class Recoder:
    """Encodes a few small pictures as video in memory and decodes them again."""

    def __init__(self, crf: int, preset: str = "veryfast", codec: str = "libx264") -> None:
        """`crf` is x264's quality: 18 is visually clean, 23 usual, 40 heavily compressed.

        `mpeg4` and `mpeg2video`, which older files have, take a like step; they do not smooth the
        borders of their blocks.
        """
        self.codec = codec
        self.options = {"crf": str(crf), "preset": preset}
        if codec != "libx264":
            self.options = {"qmin": str(max(2, crf // 3)), "qmax": str(max(2, crf // 3))}

    def run(self, images: Sequence[Image], rate: int = 25) -> list[Image]:
        """The pictures after encoding and decoding, in order; all of one size."""
        height, width = images[0].shape[:2]
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="matroska") as container:
            _encode(container, images, rate, self.options, 1, self.codec)
        buffer.seek(0)
        with av.open(buffer, "r") as coded:
            coded.streams.video[0].codec_context.thread_count = 1
            decoded = [f.to_ndarray(format="rgb24") for f in coded.decode(video=0)]
        return [image[:height, :width] for image in decoded]
