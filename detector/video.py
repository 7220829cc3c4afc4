"""A file -> what it is, and its frames in one pass, bounded in size and time. The only importer of av."""

import contextlib
import io
import math
import os
import stat
import time as clock
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

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
        with PIL.Image.open(file) as image:
            _check_pixels(image.width, image.height, settings)
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
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise UserError("unreadable_video", f"{file} is no image that can be decoded.") from error


def _check_pixels(width: int, height: int, settings: Settings) -> None:
    if width * height > settings.max_pixels:
        raise UserError(
            "frame_too_large",
            f"The picture has {width} x {height} pixels, more than the limit of "
            f"{settings.max_pixels / 1e6:.0f} megapixels. Export it smaller.",
        )


class Recoder:
    """Encodes a few small pictures with h264 in memory and decodes them again."""

    def __init__(self, crf: int, preset: str = "veryfast") -> None:
        """`crf` is x264's quality: 18 is visually clean, 23 usual, 40 heavily compressed."""
        self.options = {"crf": str(crf), "preset": preset}

    def run(self, images: Sequence[Image], rate: int = 25) -> list[Image]:
        """The pictures after encoding and decoding, in order; all of one size."""
        height, width = images[0].shape[:2]
        even = height + height % 2, width + width % 2
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="matroska") as container:
            stream = container.add_stream("libx264", rate=rate, options=self.options)
            stream.width, stream.height = even[1], even[0]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            for image in images:
                if image.shape[:2] != even:
                    image = cv2.copyMakeBorder(
                        image, 0, even[0] - height, 0, even[1] - width, cv2.BORDER_REPLICATE
                    )
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        buffer.seek(0)
        with av.open(buffer) as container:
            container.streams.video[0].codec_context.thread_count = 1
            decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        return [image[:height, :width] for image in decoded]
