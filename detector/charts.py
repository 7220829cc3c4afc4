"""Pictures: key frames with boxes, crops, coloured heatmaps."""

import base64
import io

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw

from detector.records import Face, Heatmap, Image, KeyFrame, Scan, VideoInfo

COLOURS = ("#0072b2", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9", "#7b4fa3")
"""Distinguishable by the colour-blind, after Okabe and Ito; no green, which suggests "real"."""
DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Dash patterns; the next one is used when the colours are used up."""
COLOUR_MAP = cv2.COLORMAP_INFERNO  # perceptually uniform, and safe for the colour-blind
UNRELIABLE_OPACITY = 0.35  # factor on the opacity of a map that failed its test
OUTSIDE_GREY = 128  # grey level of what lies beyond the edge of the picture


def person_style(rank: int) -> tuple[str, str]:
    """Colour and dash pattern of a person; rank 0 is the most suspicious."""
    return COLOURS[rank % len(COLOURS)], DASHES[rank // len(COLOURS) % len(DASHES)]


def clean_crop(face: Face, video: VideoInfo) -> Image:
    """A face's crop, grey where it reaches beyond the picture, in place of repeated edge pixels."""
    left, top, right, bottom = face.crop_box
    height, width = face.crop.shape[:2]
    across, down = width / max(1, right - left), height / max(1, bottom - top)
    inside = np.zeros((height, width), bool)
    inside[
        max(0, round(-top * down)) : max(0, round((video.height - top) * down)),
        max(0, round(-left * across)) : max(0, round((video.width - left) * across)),
    ] = True
    return np.where(inside[..., None], face.crop, np.uint8(OUTSIDE_GREY))


def to_png(image: Image) -> bytes:
    """Encode an RGB image as PNG."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def to_data_uri(image: Image, side: int) -> str:
    """Encode an image, at most `side` pixels long, as a JPEG data URI."""
    picture = PIL.Image.fromarray(image)
    picture.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def draw_boxes(scan: Scan, key_frame: KeyFrame) -> Image:
    """Draw a numbered box around each face of a key frame, in the person's colour."""
    image = PIL.Image.fromarray(key_frame.image)
    draw = PIL.ImageDraw.Draw(image)
    scale = key_frame.image.shape[1] / max(1, scan.video.width)
    for rank, person in enumerate(scan.people):
        colour, _ = person_style(rank)
        for face in person.person.faces:
            if face.frame_index != key_frame.index:
                continue
            box = [round(v * scale) for v in face.box]
            draw.rectangle(box, outline="white", width=4)
            draw.rectangle(box, outline=colour, width=2)
            draw.text(
                (box[0] + 4, box[1] + 2), str(person.person.id), fill=colour,
                stroke_width=2, stroke_fill="white",
            )  # fmt: skip
    return np.array(image)


def colour_heatmap(values: np.ndarray, scale: float = 1.0) -> Image:
    """Colour a map; `scale` is the value that is drawn brightest."""
    grey = (np.clip(values / scale, 0, 1) * 255).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(grey, COLOUR_MAP)[..., ::-1])


def overlay(image: Image, values: np.ndarray, *, opacity: float = 0.6, scale: float = 1.0) -> Image:
    """Blend a map over the picture that it explains; it is transparent where it is weak."""
    alpha = opacity * np.sqrt(np.clip(values / scale, 0, 1))[..., None]
    return (image * (1 - alpha) + colour_heatmap(values, scale) * alpha).round().astype(np.uint8)


def heatmap_layer(heatmap: Heatmap, side: int) -> str:
    """A map as a transparent picture to lay over a face; faint if it failed its test."""
    alpha = np.sqrt(np.clip(heatmap.values, 0, 1))
    if heatmap.trust.get("reliable") is False:
        alpha = alpha * UNRELIABLE_OPACITY
    colours = np.dstack([colour_heatmap(heatmap.values), (alpha * 255).round().astype(np.uint8)])
    picture = PIL.Image.fromarray(colours).resize((side, side), PIL.Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
