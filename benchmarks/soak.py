"""The real app under many visitors: is every answer right, nothing left, and memory back?

    python -m benchmarks.soak [--scans N] [--clients N] [--key-frames N]

Starts the app on loopback and has clients scan the examples, each of which has its own known
answer; of ten scans one is of a broken file, one is cancelled, and of one the visitor leaves before
the end. Fails on a wrong answer, on files left behind, and on memory that grows by more than a
tenth after the first fifty scans.
"""

import argparse
import contextlib
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from gradio_client import Client, handle_file

from benchmarks.memory import children_of, memory_of
from benchmarks.tables import print_head, print_row
from detector.provenance import hash_file

ROOT = Path(__file__).resolve().parent.parent
CLIPS = sorted((ROOT / "examples").glob("*.mp4"))
EARLY = 50  # scans, after which memory is looked at first
GROWTH = 1.1  # times that memory that may be held at the end
BROKEN, CANCELLED, LEFT = 3, 5, 7  # of ten scans, which
CALM = 3.0  # seconds without work, after which all scans are over
EMPTYING = 20.0  # seconds that the app's helper may take to remove what was uploaded
PATIENCE = 600.0  # seconds that a client waits for an answer
ROUNDING = 1e-3  # probability


class App:
    """The app as its own process, its temporary files in one folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "app.py", "--no-browser", "--port", str(port)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "TMPDIR": str(folder), "GRADIO_TEMP_DIR": ""},
        )  # fmt: skip
        assert self.process.stdout is not None
        if not any("Running on" in line for line in self.process.stdout):
            raise SystemExit("the app did not start")

    def _ticks(self) -> int:
        """Processor time of the app and its decoders so far."""
        total = 0
        for process in (self.process.pid, *children_of(self.process.pid)):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
                figures = text.rpartition(")")[2].split()
                total += int(figures[11]) + int(figures[12])
        return total

    def wait_for_calm(self) -> None:
        """Until the scans that nobody waits for are over, too."""
        before = -1
        while self._ticks() - before > CALM * os.sysconf("SC_CLK_TCK") / 10:
            before = self._ticks()
            time.sleep(CALM)


class Soak:
    """The clients, and the tally of what came back."""

    def __init__(self, app: App, key_frames: int, folder: Path) -> None:
        self.app, self.key_frames = app, key_frames
        self.tally: Counter[str] = Counter()
        self.broken = folder / "broken.mp4"
        whole = CLIPS[0].read_bytes()
        self.broken.write_bytes(whole[: len(whole) // 3])
        client = self._connect()
        self.known = {clip: self._answer(client, clip) for clip in CLIPS}

    def _connect(self) -> Client:
        return Client(self.app.address, verbose=False, httpx_kwargs={"timeout": PATIENCE})

    def _answer(self, client: Client, clip: Path) -> dict[str, Any]:
        given = handle_file(str(clip)), "default", self.key_frames
        told: dict[str, Any] = client.predict(*given, api_name="/scan")
        return told

    def _is_right(self, told: dict[str, Any], clip: Path) -> bool:
        known = self.known[clip]
        if "error" in told or told["sha256"] != hash_file(clip):
            return False
        same = all(told[part] == known[part] for part in ("verdict", "person", "video"))
        return same and abs((told["probability"] or 0) - (known["probability"] or 0)) <= ROUNDING

    def visit(self, number: int) -> None:
        """One scan: the usual, of a broken file, cancelled, or left."""
        client = self._connect()
        clip, kind = CLIPS[number % len(CLIPS)], number % 10
        if kind == BROKEN:
            told = self._answer(client, self.broken)
            right = told.get("error", {}).get("code") == "unreadable_video"
            self.tally["broken, and told so" if right else "WRONG: a broken file"] += 1
        elif kind in (CANCELLED, LEFT):
            given = handle_file(str(clip)), "default", self.key_frames
            job = client.submit(*given, api_name="/scan")
            time.sleep(0.5)
            if kind == CANCELLED:
                job.cancel()
            else:
                client.close()
            self.tally["cancelled" if kind == CANCELLED else "left"] += 1
        else:
            right = self._is_right(self._answer(client, clip), clip)
            self.tally["answered rightly" if right else f"WRONG: {clip.name}"] += 1

    def run(self, scans: range, clients: int) -> float:
        """Scans of these numbers; what is held once all of them are over, in MiB."""
        numbers, lock = itertools.chain(scans), threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    self.visit(number)
                except Exception as error:  # noqa: BLE001  counted, and told at the end
                    self.tally[f"WRONG: {error!r:.80}"] += 1

        workers = [threading.Thread(target=work) for _ in range(clients)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.app.wait_for_calm()
        return memory_of(self.app.process.pid)


def wait_until_empty(folder: Path) -> list[Path]:
    """The files that still lie in a folder after a while; torch leaves an empty folder there."""
    left: list[Path] = []
    for _ in range(round(EMPTYING / 0.1)):
        left = [path for path in folder.rglob("*") if path.is_file()]
        if not left:
            break
        time.sleep(0.1)
    return left


def main() -> int:
    """Run, and print what came back."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scans", type=int, default=300, metavar="N")
    parser.add_argument("--clients", type=int, default=8, metavar="N")
    parser.add_argument("--key-frames", type=int, default=8, metavar="N")
    options = parser.parse_args()
    first = min(EARLY, options.scans // 2)
    with tempfile.TemporaryDirectory() as own, tempfile.TemporaryDirectory() as apps:
        app = App(Path(apps))
        try:
            soak = Soak(app, options.key_frames, Path(own))
            began = time.monotonic()
            early = soak.run(range(first), options.clients)
            late = soak.run(range(first, options.scans), options.clients)
            spent = time.monotonic() - began
        finally:
            app.process.terminate()
            app.process.wait()
        left = wait_until_empty(Path(apps))
    print_head("what", "how much")
    for what, count in sorted(soak.tally.items()):
        print_row(what, str(count))
    print_row(f"memory after {first} scans, MiB", f"{early:.0f}")
    print_row(f"memory after {options.scans} scans, MiB", f"{late:.0f}")
    print_row("seconds", f"{spent:.0f}")
    print_row("files left", str(len(left)))
    print("\n".join(str(path) for path in left), file=sys.stderr)
    failed = left or late > GROWTH * early or any(what.startswith("WRONG") for what in soak.tally)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
