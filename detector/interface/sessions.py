"""What is remembered of each visitor, and where files lie for a while."""

import os
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path

import gradio as gr

from detector.records import Face, Heatmap, Person, Scan

KEPT_SECONDS = 3600  # how long uploads and pictures stay on disk at most
SESSIONS = 32  # visitors whose last scan is remembered


@dataclass
class Visit:
    """What is remembered of one visitor: the last scan, and whether to stop the present one."""

    scan: Scan | None = None
    model: str = "default"
    name: str = ""
    chosen: tuple[Person, Face] | None = None
    """The face that is shown, and whose it is."""
    map: Heatmap | None = None
    """What lies over it."""
    folder: Path | None = None
    """Where the files to download lie."""
    stop: threading.Event = field(default_factory=threading.Event)

    def clear(self) -> None:
        """Forget the last scan, and delete its files."""
        self.scan = self.chosen = self.map = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None


class Visits:
    """The visitors, the longest unseen forgotten first. Nothing of them is on disk."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, Visit] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, request: gr.Request | None) -> Visit:
        """The visit that a request belongs to."""
        key = getattr(request, "session_hash", None) or "api"
        with self._lock:
            visit = self._held.setdefault(key, Visit())
            self._held.move_to_end(key)
            while len(self._held) > SESSIONS:
                self._held.popitem(last=False)[1].clear()
        return visit

    def forget(self, request: gr.Request) -> None:
        """The visitor has left."""
        with self._lock:
            visit = self._held.pop(getattr(request, "session_hash", None) or "", None)
        if visit is not None:
            visit.stop.set()
            visit.clear()


VISITS = Visits()


def temporary_folder() -> str:
    """Where gradio keeps and cleans its files."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or str(Path(tempfile.gettempdir()) / "gradio")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder
