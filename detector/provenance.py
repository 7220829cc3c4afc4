"""What a file states about its origin: sha256, container metadata, Content Credentials.

None of it enters the verdict: metadata are easy to remove and to forge.
"""

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path

from detector.opened import open_file
from detector.origin import read_manifest, read_statements
from detector.records import Provenance, Statement

CHUNK = 1 << 20
KEPT = {
    "format", "encoder", "video encoder", "creation_time", "make", "model", "software",
    "com.apple.quicktime.make", "com.apple.quicktime.model", "com.apple.quicktime.software",
    "com.apple.quicktime.creationdate", "com.android.version", "comment", "handler_name",
    "video handler_name", "major_brand",
}  # fmt: skip
"""Container metadata that tell how a file was made; the rest may name people and places."""

NOTHING_FETCHED = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
"""The library's settings: by default it follows an address that a file names."""

MANIFEST_STORE = bytes.fromhex("63327061 0011 0010 8000 00aa00389b71")
"""The bytes at the start of every store of Content Credentials."""


def hash_file(path: Path) -> str:
    """The sha256 of a file's content."""
    digest = hashlib.sha256()
    with open_file(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_provenance(path: Path, metadata: Mapping[str, str]) -> Provenance:
    """Read what a file states about its origin; `metadata` is that of the container."""
    state, signer, credited = read_credentials(path)
    kept = {k: str(v)[:200] for k, v in metadata.items() if k.lower() in KEPT}
    statements = tuple(dict.fromkeys((*credited, *read_statements(path, metadata))))
    return Provenance(hash_file(path), state, signer, kept, statements)


def read_credentials(path: Path) -> tuple[str, str | None, tuple[Statement, ...]]:
    """Read the Content Credentials (C2PA): (state, signer, statements about the making).

    `valid` means that nothing was changed since the signature, not that the signer can be trusted.
    `remote` means that the file names an address with its credentials; it is not fetched.
    """
    try:
        import c2pa
    except ImportError:
        return "unchecked", None, ()
    kind = mimetypes.guess_type(path.name)[0]
    if kind is None:
        return "unchecked", None, ()
    try:
        context = c2pa.Context(c2pa.Settings.from_dict(NOTHING_FETCHED))
        with open_file(path) as file, c2pa.Reader(kind, file, context=context) as reader:
            manifest = json.loads(reader.json())
    except c2pa.C2paError as error:
        return _state_without_manifest(path, str(error)), None, ()
    except (OSError, ValueError):
        return "unchecked", None, ()
    active = manifest.get("manifests", {}).get(manifest.get("active_manifest"), {})
    signer = active.get("signature_info", {}).get("issuer")
    state = manifest.get("validation_state", "")
    valid = state in ("Valid", "Trusted")
    named = None if signer is None else str(signer)[:200]
    return ("valid" if valid else "invalid"), named, read_manifest(manifest)


def _state_without_manifest(path: Path, error: str) -> str:
    if error.startswith("Remote"):
        return "remote"
    if error.startswith("ManifestNotFound"):
        return "absent"
    if error.startswith("NotSupported"):
        return "unchecked"
    # A damaged file: its credentials are invalid only if it has any.
    return "invalid" if contains_bytes(path, MANIFEST_STORE) else "unchecked"


def contains_bytes(path: Path, wanted: bytes) -> bool:
    """Whether a file contains these bytes."""
    tail = b""
    with open_file(path) as file:
        while chunk := file.read(CHUNK):
            if wanted in tail + chunk:
                return True
            tail = chunk[-len(wanted) :]
    return False
