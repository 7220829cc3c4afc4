"""Read a file's properties and frames, in one pass and within limits on size and time.

The only importer of av.
"""

import io
import itertools
import math
import os
import stat
import time as clock
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import av.container
import av.error
import av.logging
import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pillow_heif
from av.video.reformatter import VideoReformatter

from detector.errors import UserError
from detector.opened import is_handed, is_readable, open_file, read_status
from detector.records import Frame, Image, VideoInfo
from detector.settings import Settings

av.logging.set_level(None)
pillow_heif.register_heif_opener()

IMAGE_SUFFIXES = {
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif",
}  # fmt: skip
CLIP_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".mts",
    ".m2ts", ".3gp", ".ogv", ".flv", ".wmv", ".mxf",
} | IMAGE_SUFFIXES  # fmt: skip
LUMA_SIDE = 160  # longest side in pixels of the brightness image that differences are taken on
MAX_DAMAGED = 10_000  # packets after which decoding stops
FRAMES_PER_KEY_FRAME = 32  # clips with more are thinned out, if settings.frames is some
FRAMES_DECODED_TWICE = 8  # the same, of clips that are decoded twice
THINNED_SECONDS = 1 / 16  # least time between the frames of a thinned clip
SAMPLED_FRAMES = 240  # frames decoded of a clip that is longer than the limit
LENGTH_CHECK_SHARE = 0.1  # share of the decoding time spent on finding a clip's real length
TIME_RESERVE = 0.9  # share of the remaining time that a sample may plan with
MAX_TIMESTAMP = 7 * 86_400.0  # seconds (a week); later time stamps are ignored
MAX_RATE = 1000  # frames a second; higher rates are ignored
THREADS = 4  # of one decoder; each holds frames in memory
HDR_CURVES = {16: "PQ", 18: "HLG"}  # transfer characteristics of ITU-T H.273

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF", "AVIF", "GIF")
"""Formats that Pillow may open. For PostScript, which is not one, it would run Ghostscript."""

CLIP_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "gif", "mpeg", "mpegvideo", "mpegts", "ogg",
    "flv", "asf", "mxf", "h264", "hevc", "m4v", "ivf",
)  # fmt: skip
"""Containers that FFmpeg may open: no playlists or other formats that refer to other files."""

OPEN_OPTIONS = {
    "format_whitelist": ",".join(CLIP_FORMATS),
    "protocol_whitelist": "file",
    "enable_drefs": "0",  # no tracks whose data is in another file
    "max_streams": "64",
}


def check_file(path: str | os.PathLike[str], settings: Settings) -> Path:
    """Return the path if the file exists, is not empty or too large, and can be read.

    Raises:
        UserError: `missing_file`, `not_a_file`, `empty_file`, `file_too_large`, `no_permission`.
    """
    if not os.fspath(path):
        raise UserError("missing_file", "The name of the file is empty.")
    file = Path(path)
    try:
        status = read_status(file)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError("missing_file", f"There is no file {file}.") from None
    except PermissionError as error:
        raise UserError("no_permission", f"{file} cannot be opened: {error.strerror}.") from error
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero
        raise UserError("missing_file", f"There can be no file of this name: {error}.") from error
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
    if not is_readable(file):
        raise UserError("no_permission", f"{file} may not be read: check its permissions.")
    return file


def read_image(path: str | os.PathLike[str], settings: Settings | None = None) -> Image:
    """Read a still image as upright RGB.

    Raises:
        UserError: `unreadable_video`, `frame_too_large`, or a code of `check_file`.
    """
    settings = settings or Settings()
    file = check_file(path, settings)
    try:
        with _open_image(file) as image:
            check_pixels(image.width, image.height, settings)
            return _upright_rgb(image)
    except UserError:
        raise
    except PIL.Image.DecompressionBombError:
        raise _too_large("hundreds of megapixels", settings) from None
    except Exception as error:
        raise UserError("unreadable_video", f"{file} is no image that can be decoded.") from error


@contextmanager
def _open_image(file: Path) -> Iterator[PIL.Image.Image]:
    with (
        warnings.catch_warnings(),
        open_file(file) as opened,
        PIL.Image.open(opened, formats=PICTURE_FORMATS) as image,
    ):
        warnings.simplefilter("ignore")
        yield image


def _upright_rgb(image: PIL.Image.Image) -> Image:
    upright = PIL.ImageOps.exif_transpose(image)
    if upright.mode in ("RGBA", "LA", "PA", "P"):
        upright = upright.convert("RGBA")
        ground = PIL.Image.new("RGBA", upright.size, "white")
        upright = PIL.Image.alpha_composite(ground, upright)
    if upright.mode.startswith(("I", "F")):
        grey = np.clip(np.nan_to_num(np.asarray(upright, np.float32)), 0, None)
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
    """Raise UserError `frame_too_large` for a frame beyond the limit."""
    if width * height > settings.max_pixels:
        raise _too_large(f"{width} x {height} pixels", settings)


def is_still(file: Path) -> bool:
    """Whether the content is a still image, whatever the file's name says."""
    try:
        with _open_image(file) as image:
            # A GIF is a clip; so is an animated WebP or PNG, of which the first frame is taken.
            return image.format != "GIF"
    except PIL.Image.DecompressionBombError:
        return True
    except Exception:  # noqa: BLE001  a damaged picture makes its library raise anything
        return False


class Clip:
    """An open video or image. Iterate over it once to get its frames; it is then closed.

    `info` first holds what the header claims and is corrected after the last frame. `warnings` is
    filled while frames are read.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.file = check_file(path, self.settings)
        self.warnings: list[str] = []
        self.metadata: dict[str, str] = {}
        self.frames_read = 0
        self._packets = 0
        self.decoded_twice = False
        """Whether a second pass is to come, so that shorter clips too are thinned out."""
        self._dense = False
        self._reformatter = VideoReformatter()
        self.until = clock.monotonic() + self.settings.max_decode_time
        """Time on the monotonic clock at which decoding stops."""
        self._last = 0.0  # time of the last frame
        self._damaged = 0
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
        source: Any = f"file:{self.file.absolute()}"
        if is_handed(self.file):
            source = open_file(self.file)
        try:
            return av.open(
                source,
                metadata_errors="ignore",
                options=OPEN_OPTIONS,
                timeout=max(1.0, self.settings.max_decode_time),
            )
        except av.error.ExitError as error:
            raise self._timeout() from error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UserError(
                "unreadable_video",
                f"{self.file.name} is no video that can be decoded: it is damaged, cut off, or "
                "something else under this name.",
            ) from error

    def _choose_stream(self) -> "av.video.stream.VideoStream":
        assert self._container is not None
        pictures = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & av.stream.Disposition.attached_pic
        ]
        if not pictures:
            raise UserError(
                "no_video_stream", f"{self.file.name} holds no pictures, only sound or data."
            )
        for stream in pictures:
            if stream.codec_context is not None:  # there is a decoder for it
                stream.thread_type = "AUTO"
                stream.codec_context.thread_count = min(THREADS, os.cpu_count() or 1)
                stream.codec_context.options = {"max_pixels": str(self.settings.max_pixels)}
                return stream
        raise UserError(
            "unreadable_video", f"{self.file.name} is coded in a way that is not known here."
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
        rate = stream.average_rate or stream.guessed_rate or Fraction(0)
        return VideoInfo(
            path=str(self.file),
            width=width,
            height=height,
            rate=rate if 0 < rate <= MAX_RATE else Fraction(0),
            duration=max(0.0, duration),
            frames=stream.frames or None,
            codec=stream.codec_context.name,
            rotation=0,
        )

    def close(self) -> None:
        """Close the file and free the decoder; does nothing if that is done.

        The memory of frames that are in use now is given back only when the last of them is: drop
        those that are not needed before.
        """
        self._close_file()
        with suppress(AttributeError):  # there is no decoder
            del self._stream

    def _close_file(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None

    def __iter__(self) -> Iterator[Frame]:
        try:
            if self._still is not None:
                still = self._still
                self.frames_read = 1
                yield Frame(0, 0.0, _reduce(still), lambda side=None: _shrink(still, side))
                return
            sampled = self.info.duration > self.settings.max_duration and self._is_long()
            self._dense = self._is_dense()
            if self._dense:
                self._stream.codec_context.skip_frame = "NONREF"
            stopped = yield from self._until_stopped(self._sample() if sampled else self._decode())
            if not self.frames_read:
                raise UserError(
                    "no_frames", f"{self.file.name} announces a video, but no frame decodes."
                )
            if stopped:
                self.warnings.append(
                    f"Decoding was stopped after {self.settings.max_decode_time:.0f} s, the limit: "
                    f"{self.frames_read} frames of the first {self._last:.1f} s were looked at, of "
                    f"{self.info.duration:.0f} s that the file announces."
                )
            elif sampled:
                self.warnings.append(
                    f"The clip is {self.info.duration:.0f} s long, the limit is "
                    f"{self.settings.max_duration:.0f} s: {self.frames_read} frames spread over "
                    "all of it were looked at."
                )
            if not sampled:
                self._correct_info(whole=not stopped)
            if self._damaged:
                self.warnings.append(
                    f"Parts of the file are damaged ({self._damaged} packets): what decodes was "
                    "looked at."
                )
        finally:
            self._close_file()

    def _until_stopped(
        self, pictures: Iterator[tuple[int, av.VideoFrame]]
    ) -> Generator[Frame, None, bool]:
        """Yield frames until the time limit.

        Returns:
            Whether the limit was reached before the last frame.
        """
        try:
            for index, picture in pictures:
                try:
                    frame = self._make_frame(index, picture)
                except (av.error.FFmpegError, ValueError):  # pixels that cannot be converted
                    self._damaged += 1
                    continue
                yield frame
                self._last = max(self._last, frame.time)
        except UserError as error:
            if error.code != "decode_timeout" or not self.frames_read:
                raise
            return True
        return False

    def _make_frame(self, index: int, picture: av.VideoFrame) -> Frame:
        height, turn = picture.height, int(picture.rotation) % 360
        width = round(picture.width * self._pixel_width())
        check_pixels(picture.width, height, self.settings)
        check_pixels(width, height, self.settings)
        scale = min(1.0, LUMA_SIDE / max(width, height))
        luma = self._reformatter.reformat(
            picture,
            width=max(2, round(width * scale)),
            height=max(2, round(height * scale)),
            format="gray8",
            interpolation="AREA",
        ).to_ndarray()
        if not self.frames_read:
            wide = turn % 180 == 0
            self.info = replace(
                self.info,
                width=width if wide else height,
                height=height if wide else width,
                rotation=-turn % 360,
            )
            self._warn_of_kind(picture)
        self.frames_read += 1

        def load(side: int | None = None) -> Image:
            share = min(1.0, side / max(width, height)) if side else 1.0
            size = max(1, round(width * share)), max(1, round(height * share))
            try:
                if share < 1:
                    image = picture.reformat(*size, "rgb24", interpolation="AREA").to_ndarray()
                else:
                    image = picture.to_ndarray(format="rgb24")
            except (av.error.FFmpegError, ValueError) as error:
                raise UserError(
                    "unreadable_video", f"Frame {index} of {self.file.name} is damaged."
                ) from error
            if image.shape[1] != size[0]:
                image = np.asarray(cv2.resize(image, (width, height)), np.uint8)
            return np.ascontiguousarray(np.rot90(image, turn // 90)) if turn else image

        return Frame(index, self._time(index, picture), luma, load)

    def _pixel_width(self) -> float:
        """Return the pixel aspect ratio, which is not 1 for some broadcast formats."""
        ratio = float(self._stream.sample_aspect_ratio or 1)
        return ratio if 0.1 < ratio < 10 else 1.0

    def _warn_of_kind(self, picture: av.VideoFrame) -> None:
        """Warn of HDR and interlaced video, which the network was hardly trained on."""
        curve = HDR_CURVES.get(int(picture.color_trc))
        if curve:
            self.warnings.append(
                f"The clip is HDR ({curve}): its colours are read as if it were not, which makes "
                "the answer less sure. A version in usual colours is judged better."
            )
        if picture.interlaced_frame:
            self.warnings.append(
                "The clip is interlaced: faces in motion show combs, which make the answer less "
                "sure. A deinterlaced version is judged better."
            )

    def _time(self, index: int, picture: av.VideoFrame) -> float:
        if picture.pts is not None and picture.time_base is not None:
            start = self._stream.start_time or 0
            time = float((picture.pts - start) * picture.time_base)
            if time <= MAX_TIMESTAMP:
                return max(0.0, time)
        return float(index / self.info.rate) if self.info.rate else 0.0

    def _pictures(self) -> Iterator[av.VideoFrame]:
        """Decode from the current position on; damaged packets are skipped and counted."""
        assert self._container is not None
        packets = self._container.demux(self._stream)
        while self._damaged <= MAX_DAMAGED:
            self._check_clock()
            try:
                packet = next(packets)
                pictures = packet.decode()
            except (StopIteration, av.error.EOFError):
                return
            except av.error.ExitError as error:
                raise self._timeout() from error
            except (av.error.FFmpegError, ValueError):
                self._damaged += 1
                continue
            self._damaged += bool(packet.is_corrupt)
            self._packets += packet.size > 0
            for picture in pictures:
                self._check_clock()
                yield picture

    def _check_clock(self) -> None:
        if clock.monotonic() > self.until:
            raise self._timeout()

    def _timeout(self) -> UserError:
        return UserError(
            "decode_timeout",
            f"Decoding took longer than {self.settings.max_decode_time:.0f} s. "
            "Cut out the part in question.",
        )

    def _is_dense(self) -> bool:
        """Whether the clip has so many frames that its non-reference frames can be skipped.

        The remaining frames decode to the same pixels as without skipping.
        """
        if self.settings.frames == "all" or not self.info.rate:
            return False
        each = FRAMES_DECODED_TWICE if self.decoded_twice else FRAMES_PER_KEY_FRAME
        wanted = each * self.settings.key_frames
        try:
            with self._open() as beside:  # packets are counted, because the header may be wrong
                packets = beside.demux(beside.streams[self._stream.index])
                return sum(1 for _ in itertools.islice(packets, wanted + 1)) > wanted
        except (av.error.FFmpegError, ValueError):
            return False

    def _decode(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield every frame up to the limit, or of a dense clip at most 16 a second."""
        dense, rate = self._dense, float(self.info.rate)
        index, last = -1, -1.0
        for number, picture in enumerate(self._pictures()):
            time = self._time(number, picture)
            if dense and last <= time < last + THINNED_SECONDS - 1e-6:
                continue
            index, last = max(index + 1, round(time * rate) if dense else 0), time
            if time > self.settings.max_duration:
                self.warnings.append(
                    "The clip is longer than it says: only its first "
                    f"{self.settings.max_duration:.0f} s were looked at."
                )
                return
            yield index, picture

    def _seek(self, time: float) -> bool:
        """Seek to the last I-frame before a time; False if the file cannot be sought."""
        assert self._container is not None
        base = self._stream.time_base or Fraction(1, av.time_base)
        try:
            target = int(time / base) + (self._stream.start_time or 0)
            self._container.seek(target, stream=self._stream)
        except (av.error.FFmpegError, OverflowError):
            return False
        return True

    def _is_long(self) -> bool:
        """Whether the file is really longer than the limit, checked by decoding its end."""
        claimed = min(self.info.duration, MAX_TIMESTAMP)
        end, until = 0.0, clock.monotonic() + LENGTH_CHECK_SHARE * self.settings.max_decode_time
        if self._seek(claimed):
            for number, picture in enumerate(self._pictures()):
                end = max(end, self._time(number, picture))
                if clock.monotonic() > until:  # with rare I-frames, this would decode everything
                    break
        if end < self.settings.max_duration:
            self._seek(0.0)
            return False
        self.info = replace(self.info, duration=min(end, claimed))
        return True

    def _sample(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield evenly spaced frames of a long clip, by seeking to an I-frame near each.

        If I-frames are rarer than the samples, seeking would go back, so everything is decoded.
        If decoding is slow, the spacing grows so that the end of the clip is reached in time.
        """
        rate = float(self.info.rate or 25)
        stretch = self.info.duration / SAMPLED_FRAMES
        number, shown, seeking = 0, -1.0, True
        began = clock.monotonic()
        while number < SAMPLED_FRAMES:
            start, before = number * stretch, shown
            if seeking and not self._seek(start + stretch / 2):
                return
            for picture in self._pictures():
                time = self._time(0, picture)
                seeking = seeking and time > before
                if time >= start and time > before:
                    shown = time
                    break
            else:
                return
            yield round(shown * rate), picture
            number = max(number, int(shown / stretch))
            number += self._stride(number, began) if seeking else 1

    def _stride(self, number: int, began: float) -> int:
        """Return how many sampling steps to advance to end the sample within the time limit."""
        now = clock.monotonic()
        each = (now - began) / max(1, self.frames_read)
        room = max(1.0, TIME_RESERVE * (self.until - now) / max(each, 1e-9))
        return max(1, math.ceil((SAMPLED_FRAMES - number) / room))

    def _correct_info(self, *, whole: bool) -> None:
        """Correct the number of frames, rate and duration by what was decoded."""
        announced = self.info.frames
        read = max(self.frames_read, self._packets) if self._dense else self.frames_read
        if whole and announced and read < 0.9 * announced:
            self.warnings.append(
                f"The file announces {announced} frames, {read} of them decode: "
                "it may have been cut off."
            )
        rate, gaps = self.info.rate, read - 1
        if gaps and self._last and not 0.5 < rate * self._last / gaps < 2:
            rate = Fraction(gaps / self._last).limit_denominator(1001)
        end = self._last + (float(1 / rate) if rate else 0.0)
        self.info = replace(
            self.info,
            frames=read,
            rate=rate,
            duration=min(self.info.duration or end, end),
        )


def _shrink(image: Image, side: int | None) -> Image:
    """Reduce a picture to at most `side` pixels on its longer side."""
    share = min(1.0, side / max(image.shape[:2])) if side else 1.0
    if share == 1:
        return image
    size = max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _reduce(image: Image) -> np.ndarray:
    scale = min(1.0, LUMA_SIDE / max(image.shape[:2]))
    size = max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)


def write_clip(images: Sequence[Image], *, rate: int = 25, crf: int = 23) -> bytes:
    """Encode pictures of one size as an mp4 file with h264, which all browsers play."""
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
    """Encode as yuv420p; odd sides are padded because it needs even ones."""
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

        For the codecs `mpeg4` and `mpeg2video` of older files it is mapped to a similar quantiser;
        they have no deblocking filter.
        """
        self.codec = codec
        self.options = {"crf": str(crf), "preset": preset}
        if codec != "libx264":
            self.options = {"qmin": str(max(2, crf // 3)), "qmax": str(max(2, crf // 3))}

    def run(self, images: Sequence[Image], rate: int = 25) -> list[Image]:
        """Return the pictures, all of one size, after encoding and decoding."""
        height, width = images[0].shape[:2]
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="matroska") as container:
            _encode(container, images, rate, self.options, 1, self.codec)
        buffer.seek(0)
        with av.open(buffer, "r") as coded:
            coded.streams.video[0].codec_context.thread_count = 1
            decoded = [f.to_ndarray(format="rgb24") for f in coded.decode(video=0)]
        return [image[:height, :width] for image in decoded]
