"""What is remembered of each visitor, and where files lie for a while."""

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

KEPT_SECONDS = 3600  # how long uploads and pictures stay on disk at most
SESSIONS = 32  # visitors whose last scans are remembered
HELD_BYTES = 2**30  # of pictures of all visitors; beyond, the longest unseen is forgotten


@dataclass
class Entry:
    """One file of a visitor, and what was found in it."""

    path: Path
    name: str
    example: bool = False
    scan: Scan | None = None
    error: UserError | None = None
    trials: tuple[Trial, ...] | None = None
    """The stress test's; None until it ran."""
    tested: Verdict | None = None
    """The verdict that the stress test left."""
    maps: dict[tuple[int, int], dict[str, Heatmap]] = field(default_factory=dict)
    """Frame and person -> method -> map, those that were tested."""
    known: bool = False
    """Whether its answer was worked out beforehand."""
    chosen: tuple[int, int] | None = None
    """Frame and person of the face that was asked for."""

    @property
    def answer(self) -> Answer | None:
        """What is said of the file, once it was scanned."""
        if self.scan is None:
            return None
        return Answer(self.scan, self.name, self.trials, self.tested, self.known)


@dataclass
class Visit:
    """One visitor: their files, and which check is theirs at present."""

    language: str = ENGLISH
    model: str = "default"
    run: int = 0
    """The page's own number of the present check."""
    stopped: int = 0
    """All checks up to this number are cancelled."""
    entries: list[Entry] = field(default_factory=list)
    open: Entry | None = None
    """The file on the light table."""
    folder: Path | None = None
    """Where the files to download lie."""

    def begin(self, run: int, language: str, model: str) -> Callable[[], bool]:
        """Forget what was, and start a check; the answer tells whether it has been stopped."""
        self.clear()
        self.run, self.language, self.model = run, language, model
        return lambda: self.run != run or self.stopped >= run

    @property
    def halted(self) -> bool:
        """Whether the present check was cancelled, or a newer one is on its way."""
        return 0 < self.run <= self.stopped

    def clear(self) -> None:
        """Forget all scans, and delete their files."""
        self.entries, self.open = [], None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def weight(self) -> int:
        """Bytes of the pictures that its scans hold."""
        scans = [entry.scan for entry in self.entries if entry.scan is not None]
        frames = sum(k.image.nbytes for scan in scans for k in scan.key_frames)
        faces = (f for scan in scans for person in scan.people for f in person.person.faces)
        return frames + sum(face.crop.nbytes for face in faces)

    def make_folder(self) -> Path:
        """Where files to download go; deleted with the visit."""
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(dir=temporary_folder()))
        return self.folder


class Visits:
    """The visitors, the longest unseen forgotten first."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, request: gr.Request | None) -> Visit:
        """The visit that a request belongs to."""
        key = getattr(request, "session_hash", None) or "api"
        with self._lock:
            visit = self._held.setdefault(key, Visit())
            self._held.move_to_end(key)
            while len(self._held) > SESSIONS or (len(self._held) > 1 and self._is_too_much()):
                forgotten = self._held.popitem(last=False)[1]
                forgotten.stopped = forgotten.run
                forgotten.clear()
        return visit

    def _is_too_much(self) -> bool:
        return sum(visit.weight() for visit in self._held.values()) > HELD_BYTES

    def forget(self, request: gr.Request) -> None:
        """The visitor has left."""
        with self._lock:
            visit = self._held.pop(getattr(request, "session_hash", None) or "", None)
        if visit is not None:
            visit.stopped = visit.run
            visit.clear()


VISITS = Visits()


def temporary_folder() -> str:
    """Where gradio keeps and cleans its files."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or str(Path(tempfile.gettempdir()) / "gradio")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


def uploaded(place: Any) -> Path:
    """The file that the page says it uploaded; nothing outside the folder of uploads."""
    path = Path(str(place)).resolve()
    if not path.is_relative_to(Path(temporary_folder()).resolve()):
        raise UserError("missing_file", "This file was not uploaded here.")
    return path
