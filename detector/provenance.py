"""A file -> what it says of itself: sha256, container metadata, Content Credentials.

None of it enters the verdict: metadata are easily removed and easily forged.
"""

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path

from detector.records import Provenance

CHUNK = 1 << 20
KEPT = {
    "format", "encoder", "video encoder", "creation_time", "make", "model", "software",
    "com.apple.quicktime.make", "com.apple.quicktime.model", "com.apple.quicktime.software",
    "com.apple.quicktime.creationdate", "com.android.version", "comment", "handler_name",
    "video handler_name", "major_brand",
}  # fmt: skip
"""Container metadata that tell how a file was made; the rest may name people and places."""


def hash_file(path: Path) -> str:
    """The sha256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def read_provenance(path: Path, metadata: Mapping[str, str]) -> Provenance:
    """What a file says of itself; `metadata` is the container's, as the decoder read it."""
    state, signer = read_credentials(path)
    kept = {k: str(v)[:200] for k, v in metadata.items() if k.lower() in KEPT}
    return Provenance(hash_file(path), state, signer, kept)


def read_credentials(path: Path) -> tuple[str, str | None]:
    """Content Credentials (C2PA): absent, valid, invalid or unchecked, and who signed.

    `valid` says that nothing was changed since the signature, not that the signer can be trusted.
    """
    try:
        import c2pa
    except ImportError:
        return "unchecked", None
    kind = mimetypes.guess_type(path.name)[0]
    if kind is None:
        return "unchecked", None
    try:
        with path.open("rb") as file, c2pa.Reader(kind, file) as reader:
            manifest = json.loads(reader.json())
    except c2pa.C2paError as error:
        text = str(error)
        absent = "ManifestNotFound" in text or "NotSupported" in text or "not found" in text
        if absent:
            return ("unchecked" if "NotSupported" in text else "absent"), None
        return "invalid", None
    except (OSError, ValueError):
        return "unchecked", None
    active = manifest.get("manifests", {}).get(manifest.get("active_manifest"), {})
    signer = active.get("signature_info", {}).get("issuer")
    state = manifest.get("validation_state", "")
    return ("valid" if state in ("Valid", "Trusted") else "invalid"), signer
