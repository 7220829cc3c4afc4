"""Keep uploads in a private folder per launch, which is removed when the program ends.

A helper process holds one end of a pipe and removes the folder when the pipe breaks: after Ctrl-C,
a crash, or a kill that no program can catch. If the helper is killed as well, or the power fails,
the next start removes all folders that no running program has locked.
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
    """Create a private folder for uploads and make it gradio's; remove it at the end.

    Enter it before gradio is imported: gradio reads its folder on import.
    """
    before = os.environ.get("GRADIO_TEMP_DIR")
    root = Path(before or tempfile.gettempdir())
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    base, lock = _make(root)
    helper = subprocess.Popen(
        [sys.executable, "-I", "-c", WAIT_AND_REMOVE, str(base)],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C must not reach it
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
    """Remove the upload folders of programs that no longer run."""
    for folder in root.glob(f"{PREFIX}*"):
        if folder.is_symlink() or not (folder / LOCK).is_file():
            continue
        lock = _hold(folder / LOCK)
        if lock is not None:
            lock.close()
            shutil.rmtree(folder, ignore_errors=True)


def _make(root: Path) -> tuple[Path, IO[bytes]]:
    """Create the folder and its lock; until it is locked, its name is one that `sweep` ignores."""
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
    """Lock the file until it is closed or this program ends; None if another program holds it."""
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
