"""Keep each visitor's scans in memory, and their files in a temporary folder."""

import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from detector.cards import Answer
from detector.errors import UserError
from detector.records import Heatmap, Scan, Verdict
from detector.stress import Trial
from detector.texts import ENGLISH

KEPT_SECONDS = 3600  # after which uploads and pictures are deleted
SESSIONS = 32  # visitors whose last scans are remembered
HELD_BYTES = 2**30  # of all visitors' pictures; beyond it the least recent visit is dropped


@dataclass
class Entry:
    """One file of a visitor and its results."""

    path: Path
    name: str
    example: bool = False
    scan: Scan | None = None
    error: UserError | None = None
    trials: tuple[Trial, ...] | None = None
    """The stress test's trials; None until it has run."""
    tested: Verdict | None = None
    """The verdict after the stress test."""
    testing: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    """Held while the stress test runs."""
    maps: dict[tuple[int, int], dict[str, Heatmap]] = field(default_factory=dict)
    """(frame index, person id) -> method -> heatmap."""
    note: str = ""
    """The user's note for its report."""
    known: bool = False
    """Whether its answer was computed in advance (the examples)."""
    chosen: tuple[int, int] | None = None
    """(frame index, person id) of the face that the user picked."""

    @property
    def answer(self) -> Answer | None:
        """The scan with its stress test; None until the file is scanned."""
        if self.scan is None:
            return None
        return Answer(self.scan, self.name, self.trials, self.tested, self.known)


@dataclass
class Visit:
    """One visitor's files and their current check."""

    language: str = ENGLISH
    model: str = "default"
    run: int = 0
    """Number that the page has given to the current check."""
    stopped: int = 0
    """Checks up to this number are cancelled."""
    entries: list[Entry] = field(default_factory=list)
    open: Entry | None = None
    """The file that the page shows."""
    picked: bool = False
    """Whether the user has opened a row of the table."""
    folder: Path | None = None
    """Folder of the files to download."""

    def begin(self, run: int, language: str, model: str) -> Callable[[], bool]:
        """Start a new check and drop the old one.

        Returns:
            A function that says whether this check was cancelled or replaced.
        """
        self.clear()
        self.run, self.language, self.model = run, language, model
        return lambda: self.run != run or self.stopped >= run

    @property
    def halted(self) -> bool:
        """Whether the current check was cancelled, or the page has started a newer one."""
        return 0 < self.run <= self.stopped

    def clear(self) -> None:
        """Drop all scans and delete their files."""
        self.entries, self.open, self.picked = [], None, False
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def picture_bytes(self) -> int:
        """Return the bytes of the pictures in its scans."""
        scans = [entry.scan for entry in self.entries if entry.scan is not None]
        frames = sum(k.image.nbytes for scan in scans for k in scan.key_frames)
        faces = (f for scan in scans for person in scan.people for f in person.person.faces)
        return frames + sum(face.crop.nbytes for face in faces)

    def make_folder(self) -> Path:
        """Return the folder of the files to download; it is deleted with the visit."""
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(dir=temporary_folder()))
        return self.folder


class Visits:
    """The current visits; the least recent is dropped first."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, request: gr.Request | None) -> Visit:
        """Return the visit of a request's session, new if there is none."""
        key = getattr(request, "session_hash", None) or "api"
        with self._lock:
            visit = self._held.setdefault(key, Visit())
            self._held.move_to_end(key)
            while len(self._held) > SESSIONS or (len(self._held) > 1 and self._exceeds_memory()):
                forgotten = self._held.popitem(last=False)[1]
                forgotten.stopped = forgotten.run
                forgotten.clear()
        return visit

    def _exceeds_memory(self) -> bool:
        return sum(visit.picture_bytes() for visit in self._held.values()) > HELD_BYTES

    def forget(self, request: gr.Request) -> None:
        """Drop the visit of a session that has ended."""
        with self._lock:
            visit = self._held.pop(getattr(request, "session_hash", None) or "", None)
        if visit is not None:
            visit.stopped = visit.run
            visit.clear()


VISITS = Visits()


def temporary_folder() -> str:
    """Return gradio's folder of uploads and cached files, and create it if needed."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or str(Path(tempfile.gettempdir()) / "gradio")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def uploaded(name: Any) -> Path:
    """Return the path of a file that the page says it has uploaded.

    Raises:
        UserError: `missing_file` if it is outside the folder of uploads.
    """
    path = Path(str(name)).resolve()
    if not path.is_relative_to(Path(temporary_folder()).resolve()):
        raise UserError("missing_file", "This file was not uploaded here.")
    return path
