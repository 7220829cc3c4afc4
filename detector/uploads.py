"""What visitors upload: one private folder a launch, gone when the program is, however it ends.

A helper process holds the other end of a pipe and removes the folder when the pipe breaks: after
Ctrl-C, a crash, or a kill that no program can catch. Should both be killed, or the power fail, the
next start sweeps up what no living program holds locked.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = "unmask-uploads-"
LOCK, FILES = "lock", "files"

WAIT_AND_REMOVE = """
import shutil, sys
sys.stdin.read()
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user may read, named to gradio; removed at the end.

    To be entered before gradio is imported, which notes on import where its files go.
    """
    before = os.environ.get("GRADIO_TEMP_DIR")
    root = Path(before or tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    base, lock = _make(root)
    helper = subprocess.Popen(
        [sys.executable, "-I", "-c", WAIT_AND_REMOVE, str(base)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us
    )
    os.environ["GRADIO_TEMP_DIR"] = str(base / FILES)
    try:
        yield base / FILES
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before
        lock.close()
        shutil.rmtree(base, ignore_errors=True)
        with suppress(subprocess.TimeoutExpired):
            helper.communicate(timeout=5)


def sweep(root: Path) -> None:
    """Remove the folders of programs that are no more."""
    for folder in root.glob(f"{PREFIX}*"):
        if folder.is_symlink() or not (folder / LOCK).is_file():
            continue
        lock = _hold(folder / LOCK)
        if lock is not None:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)


def _make(root: Path) -> tuple[Path, IO[bytes]]:
    """The folder and its lock; until it is locked it has a name that no sweep looks for."""
    made = Path(tempfile.mkdtemp(prefix="unmask-new-", dir=root))
    (made / FILES).mkdir()
    base = made.with_name(made.name.replace("unmask-new-", PREFIX))
    if os.name == "nt":  # where a folder that holds an open file cannot be renamed
        made.rename(base)
        made = base
    (made / LOCK).touch()
    lock = _hold(made / LOCK)
    if lock is None:
        raise OSError(f"{made} is locked")
    return (made if made == base else made.rename(base)), lock


def _hold(path: Path) -> IO[bytes] | None:
    """The file, locked until it is closed or this program ends; None if another holds it."""
    try:
        file = path.open("r+b")
    except OSError:
        return None
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
