"""What files say of a generator, in every place where they say it."""

from pathlib import Path

import PIL.Image
import PIL.PngImagePlugin
import pytest
from clips import texture

from detector.origin import CHUNK, read_manifest, read_statements
from detector.records import Statement

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description {attributes}>{elements}'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    ("attributes", "elements"),
    [
        (f'Iptc4xmpExt:DigitalSourceType="{GENERATED}" xmp:CreatorTool="A Maker"', ""),
        (
            "",
            f"<Iptc4xmpExt:DigitalSourceType>{GENERATED}</Iptc4xmpExt:DigitalSourceType>"
            "<xmp:CreatorTool>A Maker</xmp:CreatorTool>",
        ),
        (
            'xmp:CreatorTool="A Maker"',
            f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{GENERATED}"/>',
        ),
    ],
    ids=["attribute", "element", "resource"],
)
@pytest.mark.parametrize("before", [0, CHUNK - 5, CHUNK + 17])
def test_xmp_is_found_wherever_it_stands(
    tmp_path: Path, attributes: str, elements: str, before: int
) -> None:
    path = tmp_path / "clip.mp4"
    packet = XMP.format(attributes=attributes, elements=elements).encode()
    path.write_bytes(bytes(before) + packet + bytes(99))
    told = read_statements(path, {})
    assert told == (Statement("generated", "A Maker", "XMP, DigitalSourceType"),)


def test_a_camera_is_no_generator(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    source = GENERATED.replace("trainedAlgorithmicMedia", "digitalCapture")
    path.write_bytes(XMP.format(attributes=f'x:DigitalSourceType="{source}"', elements="").encode())
    assert [s.kind for s in read_statements(path, {"encoder": "Lavf61.7.100"})] == ["captured"]
    path.write_bytes(b"<x:xmpmeta" + bytes(3 * CHUNK))
    assert read_statements(path, {}) == ()


def test_png_and_exif_and_the_container_name_generators(tmp_path: Path) -> None:
    picture = PIL.Image.fromarray(texture(1))
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("parameters", "a portrait, Steps: 20")
    picture.save(tmp_path / "a.png", pnginfo=info)
    assert read_statements(tmp_path / "a.png", {}) == (
        Statement("generated", "Stable Diffusion", "PNG, parameters"),
    )
    exif = PIL.Image.Exif()
    exif[0x0131] = "Midjourney 7"
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert read_statements(tmp_path / "a.jpg", {}) == (
        Statement("generated", "Midjourney", "EXIF, Software"),
    )
    picture.save(tmp_path / "b.jpg")
    assert read_statements(tmp_path / "b.jpg", {}) == ()
    (told,) = read_statements(tmp_path / "b.jpg", {"comment": "made with Sora"})
    assert told.who == "Sora"


def test_content_credentials_name_who_made_or_changed_a_file() -> None:
    def manifest(source: str, agent: object) -> dict:
        action = {"action": "c2pa.created", "digitalSourceType": source, "softwareAgent": agent}
        assertions = [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}]
        return {"active_manifest": "a", "manifests": {"a": {"assertions": assertions}}}

    where = "Content Credentials"
    assert read_manifest(manifest(GENERATED, {"name": "A Maker"})) == (
        Statement("generated", "A Maker", where),
    )
    composite = GENERATED.replace("trainedA", "compositeWithTrainedA")
    assert read_manifest(manifest(composite, "Editor")) == (Statement("altered", "Editor", where),)
    assert read_manifest(manifest("http://elsewhere/unknown", "Editor")) == ()
    assert read_manifest({}) == ()
    looped = manifest(GENERATED, "A Maker")
    looped["manifests"]["a"]["ingredients"] = [{"relationship": "parentOf", "active_manifest": "a"}]
    assert len(read_manifest(looped)) == 1
