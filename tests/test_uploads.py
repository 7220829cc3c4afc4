"""What visitors upload is gone when the program is, however it ends."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from detector.uploads import PREFIX, private_folder, sweep

ROOT = Path(__file__).parent.parent

HOLD = """
import sys, time
from detector.uploads import private_folder
with private_folder() as folder:
    (folder / "secret.mp4").write_bytes(b"secret")
    print(folder, flush=True)
    time.sleep(60)
"""


def start(code: str, root: Path) -> tuple[subprocess.Popen[str], Path]:
    """A program that has uploads, and where they lie."""
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env={**os.environ, "GRADIO_TEMP_DIR": str(root)},
    )  # fmt: skip
    assert program.stdout is not None
    return program, Path(program.stdout.readline().strip())


def is_emptied(root: Path, seconds: float = 20) -> bool:
    for _ in range(round(seconds / 0.1)):
        if not list(root.iterdir()):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_uploads_are_gone_however_the_program_ends(tmp_path: Path, how: str) -> None:
    program, folder = start(HOLD, tmp_path)
    assert (folder / "secret.mp4").is_file()
    if os.name == "posix":
        assert (folder.parent.stat().st_mode & 0o777) == 0o700
    program.send_signal(getattr(signal, how))
    program.communicate()
    assert is_emptied(tmp_path)


def test_the_next_start_sweeps_what_the_dead_left_and_nothing_else(tmp_path: Path) -> None:
    living, folder = start(HOLD, tmp_path)
    try:
        dead = tmp_path / f"{PREFIX}dead"
        (dead / "files").mkdir(parents=True)
        (dead / "lock").touch()
        (dead / "files" / "secret.mp4").touch()
        (tmp_path / "other").mkdir()
        with private_folder_below(tmp_path) as own:
            assert own.is_dir()
            assert (folder / "secret.mp4").is_file()
            assert not dead.exists()
        sweep(tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {"other", folder.parent.name}
    finally:
        living.kill()
        living.communicate()
    shutil.rmtree(tmp_path / "other")
    assert is_emptied(tmp_path)


@contextmanager
def private_folder_below(root: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(root))
        with private_folder() as folder:
            yield folder


def test_promise_uploads_are_deleted_and_nothing_else_is_left(tmp_path: Path) -> None:
    """The whole app: calls leave their uploads and no empty file; a kill leaves nothing."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = subprocess.Popen(
        [sys.executable, "app.py", "--no-browser", "--port", str(port)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "GRADIO_TEMP_DIR": ""},
    )  # fmt: skip
    try:
        assert app.stdout is not None
        assert any("Running on local URL" in line for line in app.stdout)
        (folder,) = tmp_path.glob(f"{PREFIX}*")
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        for number in range(3):
            upload = handle_file(str(ROOT / "tests" / "clips.py"))
            answer = client.predict(upload, "default", number + 1, api_name="/scan")
            assert answer["error"]["code"] == "unreadable_video"
        files = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "lock"]
        assert files
        assert all(folder in p.parents and p.stat().st_size for p in files)
    finally:
        app.kill()
        app.communicate()
    assert is_emptied(tmp_path)


def test_the_app_opens_no_upload_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gradio as gr
    import PIL.Image
    from gradio.data_classes import FileData, ImageData

    from detector.interface import build_interface

    monkeypatch.setattr(PIL.Image, "open", lambda *_, **__: pytest.fail("opened"))
    path = tmp_path / "evil.eps"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n", encoding="utf-8")
    inputs = [
        block for block in build_interface().blocks.values()
        if (isinstance(block, gr.Image | gr.File) and block.interactive is not False)
    ]  # fmt: skip
    assert len(inputs) == 2
    for block in inputs:
        kind = ImageData if isinstance(block, gr.Image) else FileData
        assert block.preprocess(kind(path=str(path), orig_name="evil.eps")) == str(path)
