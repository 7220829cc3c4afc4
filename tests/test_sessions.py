"""What all visitors together may hold is bounded."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clips import make_face

from detector.interface import sessions
from detector.interface.sessions import Entry, Visits


def remember(visits: Visits, who: str, megabytes: int) -> sessions.Visit:
    """A visit whose scan holds that much, half of it in a face."""
    half = np.broadcast_to(np.uint8(0), (megabytes, 2**19))
    face = make_face(0, crop=half)
    found: Any = SimpleNamespace(
        key_frames=[SimpleNamespace(image=half)],
        people=[SimpleNamespace(person=SimpleNamespace(faces=[face]))],
    )
    request: Any = SimpleNamespace(session_hash=who)
    visit = visits.of(request)
    visit.entries = [Entry(Path("clip.mp4"), "clip.mp4", scan=found)]
    assert visit.picture_bytes() == megabytes * 2**20
    return visit


def test_the_longest_unseen_is_forgotten_when_memory_is_full() -> None:
    visits = Visits()
    held = [remember(visits, str(number), 300) for number in range(4)]
    remember(visits, "another", 1)
    assert [len(visit.entries) for visit in held] == [0, 1, 1, 1]


def test_one_visit_alone_is_kept_whatever_it_holds() -> None:
    visits = Visits()
    visit = remember(visits, "one", 2000)
    request: Any = SimpleNamespace(session_hash="one")
    assert visits.of(request) is visit
    assert visit.entries


def test_a_check_is_stopped_by_cancelling_it_or_by_a_newer_one() -> None:
    visit = sessions.Visit()
    stopped = visit.begin(1, "en", "default")
    assert not stopped()
    assert not visit.halted
    visit.stopped = 1
    assert stopped()
    assert visit.halted
    newer = visit.begin(2, "de", "default")
    assert stopped()
    assert not newer()
    assert (visit.language, visit.halted) == ("de", False)


def test_a_visitor_who_leaves_is_forgotten_with_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    visits = Visits()
    request: Any = SimpleNamespace(session_hash="one")
    visit = visits.of(request)
    stopped = visit.begin(1, "en", "default")
    (visit.make_folder() / "report.html").write_text("a report", encoding="utf-8")
    assert visit.make_folder().parent == tmp_path
    visits.forget(request)
    assert stopped()
    assert list(tmp_path.iterdir()) == []
    assert visits.of(request) is not visit
