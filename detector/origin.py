"""Statements in a file about how it was made: marks of generators and editors.

Content Credentials name actions and their `digitalSourceType` (IPTC's vocabulary); XMP packets,
EXIF and PNG texts carry the same type or a generator's name. Statements are easy to remove and to
forge, so none of them enters the verdict; but a file that says "generated" rarely lies.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import PIL.Image

from detector.opened import open_file
from detector.records import Statement

SOURCE_TYPES = {
    "trainedAlgorithmicMedia": "generated",
    "algorithmicMedia": "generated",
    "compositeSynthetic": "altered",
    "compositeWithTrainedAlgorithmicMedia": "altered",
    "algorithmicallyEnhanced": "altered",
    "humanEdits": "altered",
    "minorHumanEdits": "altered",
    "compositeCapture": "altered",
    "composite": "altered",
    "digitalCapture": "captured",
    "computationalCapture": "captured",
}
"""IPTC's digital source types -> what they amount to."""

GENERATORS = re.compile(
    r"midjourney|dall[-·. ]?e\b|adobe firefly|stable[ _-]?diffusion|comfyui|automatic1111|invokeai"
    r"|novelai|made with google ai|\bimagen\b|\bsora\b|runway ?(ml|gen)|\bpika\b|\bkling\b|hailuo"
    r"|heygen|synthesia|d-id\b|deepfacelab|facefusion|faceswap|roop\b|\baigc\b|openai"
    r"|black forest labs|\bflux\.?1|ideogram|leonardo\.ai|\bveo ?\d|wav2lip|liveportrait",
    re.IGNORECASE,
)
"""Names that generators and face swappers leave in tags."""

INGREDIENT = "Content Credentials of an ingredient"

PNG_KEYS = {"parameters": "Stable Diffusion", "prompt": "ComfyUI", "workflow": "ComfyUI"}
"""Texts of PNG files that only generators write, and which."""

FORMATS = "JPEG", "PNG", "WEBP"
EXIF_SOFTWARE, EXIF_DESCRIPTION, EXIF_COMMENT = 0x0131, 0x010E, 0x9286
CHUNK = 1 << 20
PACKET = 1 << 18  # bytes of an XMP packet that are read
PACKETS = 4  # of a file
LENGTH = 120  # characters of a name that are kept


def read_statements(path: Path, metadata: Mapping[str, str]) -> tuple[Statement, ...]:
    """Statements from XMP, EXIF, PNG texts and the container's `metadata`.

    It parses untrusted files, so it must run behind the fence.
    """
    found: list[Statement] = []
    for packet in _packets(path):
        found += _read_packet(packet)
    found += _read_picture(path)
    for key, value in metadata.items():
        if named := GENERATORS.search(f"{key} {value}"):
            found.append(Statement("generated", named.group(), f"container, {key}"))
    return tuple(dict.fromkeys(found))


def read_manifest(store: Mapping[str, Any]) -> tuple[Statement, ...]:
    """Statements about the making in a store of Content Credentials.

    Its active manifest is the file's. The others are of the files that it was made from, its
    ingredients: what is said of the file it was edited from is said of the file too, and a file
    with a generated or altered part is altered.
    """
    manifests = store.get("manifests", {})
    active = store.get("active_manifest")
    found, seen = [], {active}
    waiting = [(active, True)]  # a manifest's label, whether it tells of the whole file
    for label, whole in waiting:  # the list grows while it is walked
        manifest = manifests.get(label, {})
        where = "Content Credentials" if label == active else INGREDIENT
        for kind, who in _read_actions(manifest):
            if whole:
                found.append(Statement(kind, who, where))
            elif kind != "captured":
                found.append(Statement("altered", who, where))
        for ingredient in manifest.get("ingredients", ()):
            source = ingredient.get("active_manifest")
            if source not in seen and ingredient.get("relationship") in ("parentOf", "componentOf"):
                seen.add(source)
                waiting.append((source, whole and ingredient["relationship"] == "parentOf"))
    return tuple(dict.fromkeys(found))


def _read_actions(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(what each action of a known source type amounts to, the program that did it)."""
    generator = str(manifest.get("claim_generator", "")).split("/")[0]
    for assertion in manifest.get("assertions", ()):
        if not str(assertion.get("label", "")).startswith("c2pa.actions"):
            continue
        for action in (assertion.get("data") or {}).get("actions", ()):
            kind = SOURCE_TYPES.get(str(action.get("digitalSourceType", "")).rsplit("/", 1)[-1])
            agent = action.get("softwareAgent") or generator
            name = agent.get("name", "") if isinstance(agent, Mapping) else agent
            if kind:
                yield kind, str(name)[:LENGTH]


def _packets(path: Path) -> Iterator[str]:
    """The XMP packets of a file, at any position."""
    start, end, held, count = b"<x:xmpmeta", b"</x:xmpmeta>", b"", 0
    with open_file(path) as file:
        while chunk := file.read(CHUNK):
            held += chunk
            while (at := held.find(start)) >= 0 and count < PACKETS:
                held = held[at:]
                while end not in held[:PACKET] and len(held) < PACKET:
                    if not (more := file.read(PACKET)):
                        break
                    held += more
                stop = held.find(end, 0, PACKET)
                yield held[: stop if stop >= 0 else PACKET].decode("utf-8", "replace")
                held, count = held[max(stop, len(start)) :], count + 1
            held = held[-len(start) :]


def _read_packet(packet: str) -> Iterator[Statement]:
    maker = _tag(packet, "CreatorTool") or _tag(packet, "Credit") or ""
    if source := _tag(packet, "DigitalSourceType"):
        kind = SOURCE_TYPES.get(source.rsplit("/", 1)[-1])
        if kind:
            yield Statement(kind, maker[:LENGTH], "XMP, DigitalSourceType")
    for name in ("CreatorTool", "Credit", "Software"):
        value = _tag(packet, name)
        if value and GENERATORS.search(value):
            yield Statement("generated", value[:LENGTH], f"XMP, {name}")


def _tag(packet: str, name: str) -> str | None:
    """The value of a property, which may be an attribute, an element, or an element's resource."""
    forms = (
        rf'\w+:{name}\s*=\s*"([^"]*)"',
        rf"<\w+:{name}>(?:\s*<rdf:\w+>\s*<rdf:li[^>]*>)?\s*([^<]+)<",
        rf'<\w+:{name}\s+rdf:resource="([^"]*)"',
    )
    for form in forms:
        if found := re.search(form, packet):
            return found.group(1).strip()
    return None


def _read_picture(path: Path) -> Iterator[Statement]:
    """EXIF and PNG texts of a still picture; nothing for other files."""
    try:
        with (
            warnings.catch_warnings(),
            open_file(path) as file,
            PIL.Image.open(file, formats=FORMATS) as picture,
        ):
            warnings.simplefilter("ignore")
            texts = {k: v for k, v in picture.info.items() if isinstance(v, str)}
            exif = picture.getexif()
            tags = {
                "Software": exif.get(EXIF_SOFTWARE),
                "ImageDescription": exif.get(EXIF_DESCRIPTION),
                "UserComment": exif.get_ifd(0x8769).get(EXIF_COMMENT),
            }
            form = picture.format or ""
    except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError):
        return
    for key, value in texts.items():
        if form == "PNG" and key in PNG_KEYS:
            yield Statement("generated", PNG_KEYS[key], f"PNG, {key}")
        elif key not in ("exif", "xmp", "XML:com.adobe.xmp") and GENERATORS.search(value):
            yield Statement("generated", value[:LENGTH], f"{form}, {key}")
    for key, tag in tags.items():
        text = tag.decode("utf-8", "replace") if isinstance(tag, bytes) else str(tag or "")
        if named := GENERATORS.search(text):
            yield Statement("generated", named.group(), f"EXIF, {key}")
