"""What a file says of itself is told as its word, and nothing is fetched for it."""

import datetime
import io
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import c2pa
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
from clips import texture, write_clip
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from detector import provenance
from detector.origin import INGREDIENT
from detector.provenance import read_credentials, read_provenance
from detector.records import Statement
from detector.video import Clip

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dcterms="http://purl.org/dc/terms/"
 dcterms:provenance="{url}"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
XMP_BOX = uuid.UUID("be7acfcb-97a9-42e8-9c71-999491e3afac").bytes
KINDS = ["jpg", "webp", "png", "tif", "heic", "avif", "gif", "mp4", "mov", "mkv", "avi"]


def write_file(path: Path, xmp: bytes) -> Path:
    """A small picture or clip whose metadata are those."""
    picture = PIL.Image.fromarray(texture(1))
    if path.suffix in (".jpg", ".webp", ".avif"):
        picture.save(path, xmp=xmp)
    elif path.suffix == ".png":
        words = PIL.PngImagePlugin.PngInfo()
        words.add_itxt("XML:com.adobe.xmp", xmp.decode())
        picture.save(path, pnginfo=words)
    elif path.suffix == ".tif":
        picture.save(path, tiffinfo={700: xmp})
    elif path.suffix == ".heic":
        picture.info["xmp"] = xmp
        picture.save(path)
    elif path.suffix == ".gif":
        picture.save(path, comment=xmp[:200])
    else:
        codec = "mpeg4" if path.suffix == ".avi" else "libx264"
        write_clip(path, [texture(1)] * 3, codec=codec)
        if path.suffix in (".mp4", ".mov"):
            box = XMP_BOX + xmp
            data = path.read_bytes() + (len(box) + 8).to_bytes(4, "big") + b"uuid" + box
            path.write_bytes(data)
    return path


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A server that notes who calls: native code does not pass through Python's sockets."""
    calls: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:
                    return
                with caller:
                    calls.append(caller.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/manifest.c2pa", calls
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_file_makes_unmask_call_home(tmp_path: Path, kind: str) -> None:
    with listening() as (url, calls):
        path = write_file(tmp_path / f"file.{kind}", XMP.format(url=url).encode())
        clip = Clip(path)
        assert list(clip)
        told = read_provenance(path, clip.metadata)
    assert calls == []
    assert told.content_credentials in ("remote", "absent", "unchecked")
    if kind in ("jpg", "webp", "mp4"):
        assert told.content_credentials == "remote"


def test_the_listener_hears_who_calls(tmp_path: Path) -> None:
    """The test above would notice: with the library's defaults the same file calls."""
    with listening() as (url, calls):
        path = write_file(tmp_path / "file.jpg", XMP.format(url=url).encode())
        with pytest.raises(c2pa.C2paError), path.open("rb") as file:
            c2pa.Reader("image/jpeg", file)
    assert b"GET /manifest.c2pa" in calls[0]


def mutants(data: bytes, count: int) -> Iterator[bytes]:
    rng = np.random.default_rng(7)
    for _ in range(count):
        mutant = bytearray(data)
        for at in rng.integers(0, len(mutant), 12):
            mutant[at] = rng.integers(256)
        yield bytes(mutant[: rng.integers(len(mutant) // 2, len(mutant))])


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "heic", "avif", "gif", "mp4", "mov", "avi"])
def test_damage_is_not_called_invalid_where_no_credentials_were(tmp_path: Path, kind: str) -> None:
    data = write_file(tmp_path / f"whole.{kind}", b"").read_bytes()
    path = tmp_path / f"damaged.{kind}"
    states = set()
    for mutant in mutants(data, 30):
        path.write_bytes(mutant)
        states.add(read_credentials(path)[0])
    assert states <= {"absent", "unchecked"}


def sign(
    picture: bytes, source: str | None = "digitalCapture", agent: str = "", **ingredients: bytes
) -> bytes:
    """The picture with credentials of a signer made for the occasion.

    `source` and `agent` are its digital source type and the program that made it; `ingredients` are
    signed pictures by their relationship to it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "A test"),
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "A test"),
    ])  # fmt: skip
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A test's root")])

    def certify(subject: x509.Name, public: ec.EllipticCurvePublicKey, *, root_of: bool) -> bytes:
        usage = x509.KeyUsage(
            not root_of, False, False, False, False, root_of, root_of, False, False
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(root).public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(began).not_valid_after(began + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(root_of, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )  # fmt: skip
        if not root_of:
            uses = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(uses, critical=False)
        made = builder.sign(authority_key, hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM)

    chain = certify(name, key.public_key(), root_of=False)
    chain += certify(root, authority_key.public_key(), root_of=True)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(b"es256", chain, private, None))
    actions: list[dict] = [
        {"action": "c2pa.opened" if relationship == "parentOf" else "c2pa.placed",
         "softwareAgent": agent, "parameters": {"ingredientIds": [relationship]}}
        for relationship in ingredients
    ]  # fmt: skip
    if source:
        kind = SOURCE_TYPE + source
        actions.append(
            {"action": "c2pa.created", "softwareAgent": agent, "digitalSourceType": kind}
        )
    manifest = {
        "claim_generator_info": [{"name": "test", "version": "1"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": actions}}],
    }
    builder = c2pa.Builder(json.dumps(manifest))
    for relationship, ingredient in ingredients.items():
        about = {"relationship": relationship, "instance_id": relationship}
        builder.add_ingredient(json.dumps(about), "image/jpeg", io.BytesIO(ingredient))
    signed = io.BytesIO()
    builder.sign(signer, "image/jpeg", io.BytesIO(picture), signed)
    return signed.getvalue()


def test_credentials_are_valid_until_something_is_changed(tmp_path: Path) -> None:
    plain = io.BytesIO()
    PIL.Image.fromarray(texture(1)).save(plain, "JPEG")
    path = tmp_path / "signed.jpg"
    signed = sign(plain.getvalue())
    path.write_bytes(signed)
    assert read_credentials(path)[:2] == ("valid", "A test")
    spoilt = bytearray(signed)
    spoilt[-100] ^= 0xFF
    path.write_bytes(bytes(spoilt))
    assert read_credentials(path)[0] == "invalid"
    at = signed.index(provenance.MANIFEST_STORE)
    path.write_bytes(signed[: at + 40] + bytes(200) + signed[at + 240 :])
    assert read_credentials(path)[0] == "invalid"


def test_credentials_tell_of_the_files_that_a_file_was_made_from(tmp_path: Path) -> None:
    plain = io.BytesIO()
    PIL.Image.fromarray(texture(1)).save(plain, "JPEG")
    drawn = sign(plain.getvalue(), "trainedAlgorithmicMedia", "A Maker")
    taken = sign(plain.getvalue(), "digitalCapture", "A Camera")
    path = tmp_path / "edited.jpg"

    path.write_bytes(sign(plain.getvalue(), None, "Editor", parentOf=drawn, componentOf=taken))
    assert read_credentials(path)[2] == (Statement("generated", "A Maker", INGREDIENT),)
    path.write_bytes(sign(plain.getvalue(), None, "Editor", parentOf=taken, componentOf=drawn))
    assert set(read_credentials(path)[2]) == {
        Statement("captured", "A Camera", INGREDIENT),
        Statement("altered", "A Maker", INGREDIENT),
    }
