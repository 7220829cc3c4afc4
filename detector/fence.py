"""Strangers' files are opened in other processes: warm decoders with limits, one clip at a time.

A decoder that crashes, hangs or reaches a limit is ended and replaced; only its clip has no answer.
What a decoder says is JSON and pixels, checked here: whoever took one over gains nothing by lying.
Decoders are programs of their own, not copies of this one: a script without a `__main__` guard, a
notebook or an app that uses them is never run a second time. (Pools of the standard library run
it again, give one whole answer a task, and end all their processes when one crashes.)
"""

import atexit
import json
import math
import os
import queue
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from detector.decoder import HEAD
from detector.errors import CODES, LOG, UserError
from detector.records import Curve, Image, KeyFrame, Provenance, Statement, VideoInfo
from detector.sandbox import give_memory_back
from detector.settings import Progress, Settings, silent

DECODERS = max(2, min(4, os.cpu_count() or 2))  # at once; what they hold is limited each
CLIPS_EACH = 100  # after which a decoder is replaced
LONGEST_TEXT = 64 * 2**20  # bytes of JSON
PATIENCE = 0.2  # seconds between looks at whether the scan was cancelled
GRACE = 5.0  # seconds beyond the limit of time, for a decoder to say itself that it was reached
KEPT_VARIABLES = {
    "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LANG",
    "LC_ALL", "VIRTUAL_ENV",
}  # fmt: skip
"""What a decoder sees of the environment: no token, no password."""

FEW_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "4"}
"""On machines of many cores, one for each would reach the limit of address space by themselves."""

PROGRAM = ("-P", "-m", "detector.decoder")
"""What Python runs. -P: an av.py in the folder of the clips is not taken for the library."""

OUT_OF_TIME = -int(getattr(signal, "SIGXCPU", 0))  # what a process ends with at its limit

Told = TypeVar("Told")
Reading = Callable[[dict[str, Any], bytearray], Told]


class Ended(Exception):
    """The decoder is no more."""


class Decoder:
    """One process that decodes, and the line to it."""

    def __init__(self) -> None:
        home = str(Path(__file__).resolve().parent.parent)
        kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
        paths = [home, *(path for path in sys.path if path)]
        self.clips = 0
        self.idle = False
        """Whether it waits for a clip. One that is left while it works is ended."""
        self.most_pixels = 0
        self._line, theirs = _make_line()
        self._process = subprocess.Popen(
            [sys.executable, *PROGRAM],
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **FEW_THREADS, "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,  # Ctrl-C is for us
        )
        theirs.close()
        assert self._process.stdout is not None
        self._stream = self._process.stdout
        self._answers: queue.Queue[tuple[Any, bytearray] | None] = queue.Queue(2)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, request: dict[str, Any], file: int | None = None) -> None:
        """Send a request, and hand over an opened file where the system can do that."""
        self.idle = False
        try:
            if isinstance(self._line, socket.socket):
                text = json.dumps({**request, "handed": file is not None}).encode() + b"\n"
                sent = 0
                if file is not None:
                    sent = socket.send_fds(self._line, [text], [file])
                self._line.sendall(text[sent:])
            else:
                self._line.write(json.dumps(request).encode() + b"\n")
                self._line.flush()
        except (OSError, ValueError) as error:
            raise Ended from error

    def answer(self) -> tuple[Any, bytearray] | None:
        """The next answer: its JSON and its pixels; None if it is not there yet."""
        try:
            answer = self._answers.get(timeout=PATIENCE)
        except queue.Empty:
            return None
        if answer is None:
            self._answers.put(None)  # nor is there any after it
            raise Ended
        return answer

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def end(self) -> int:
        """End it at once, unless it has ended; the code it ended with."""
        self._process.kill()
        code = self._process.wait()
        while self._reader.is_alive():  # it may wait for room to put an answer
            with suppress(queue.Empty):
                self._answers.get_nowait()
            self._reader.join(0.01)
        for stream in (self._line, self._stream):
            with suppress(OSError):
                stream.close()
        return code

    def _read(self) -> None:
        """Runs beside, so that whoever waits for an answer can look at the clock."""
        try:
            while len(head := self._stream.read(HEAD.size)) == HEAD.size:
                text, size = HEAD.unpack(head)
                if text > LONGEST_TEXT or size > 3 * self.most_pixels:
                    break
                header, pixels = json.loads(self._stream.read(text)), bytearray(size)
                room = memoryview(pixels)
                while room and (count := self._stream.readinto(room)):  # type: ignore[attr-defined]
                    room = room[count:]
                self._answers.put((header, pixels))
        except (OSError, ValueError):
            pass
        self._answers.put(None)


def _make_line() -> tuple[socket.socket | BinaryIO, socket.socket | BinaryIO]:
    """Both ends of the line to a decoder; over a socket, opened files can be handed over."""
    if hasattr(socket, "send_fds"):
        return socket.socketpair()
    theirs, ours = os.pipe()
    return os.fdopen(ours, "wb"), os.fdopen(theirs, "rb")


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """The file, opened to be handed over; None where it is none, which the decoder explains."""
    descriptor = None
    with suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        regular = descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
        yield descriptor if regular else None
    finally:
        if descriptor is not None:
            os.close(descriptor)


class Fence:
    """The decoders of this process."""

    def __init__(self, size: int = DECODERS) -> None:
        self.process = os.getpid()
        self._free = threading.Semaphore(size)
        self._warm: list[Decoder] = []
        self._lock = threading.Lock()

    def warm(self) -> None:
        """Start a decoder, unless one waits already: it takes its time to load."""
        with self._lock:
            if not self._warm:
                self._warm.append(Decoder())

    @contextmanager
    def decoder(self, progress: Progress) -> Iterator[Decoder]:
        """One for this clip alone; whoever waits for one can still cancel."""
        while not self._free.acquire(timeout=PATIENCE):
            progress("key frames", 0.0)
        try:
            decoder = self._take()
            try:
                yield decoder
            finally:
                decoder.clips += 1
                if decoder.idle and decoder.is_alive() and decoder.clips < CLIPS_EACH:
                    with self._lock:
                        self._warm.append(decoder)
                else:
                    decoder.end()
                    self.warm()
        finally:
            self._free.release()

    def _take(self) -> Decoder:
        with self._lock:
            while self._warm:
                decoder = self._warm.pop()
                if decoder.is_alive():
                    return decoder
                decoder.end()
        return Decoder()

    def close(self) -> None:
        """End the decoders that wait."""
        with self._lock:
            for decoder in self._warm:
                decoder.end()
            self._warm.clear()


_fences: list[Fence] = []
_lock = threading.Lock()


def fence() -> Fence:
    """This process's decoders; a copy of the process has its own."""
    with _lock:
        if not _fences or _fences[0].process != os.getpid():
            _fences[:] = [Fence()]
            atexit.register(_fences[0].close)
        return _fences[0]


@dataclass
class Look:
    """What a decoder found in a clip, and the line to it while the clip is open."""

    decoder: Decoder
    settings: Settings
    progress: Progress
    video: VideoInfo
    curve: Curve = field(default_factory=lambda: Curve(np.zeros(0), np.zeros(0)))
    warnings: tuple[str, ...] = ()
    frames: tuple[tuple[int, float, float], ...] = ()
    """Index, time and difference of each key frame."""

    def thumbnails(self) -> Iterator[KeyFrame]:
        """The key frames, small."""
        return self._images("thumbnails", "key frames")

    def key_frames(self) -> Iterator[KeyFrame]:
        """The key frames at full size, one at a time."""
        return self._images("key frames", "faces")

    def provenance(self) -> Provenance:
        """What the file says of itself."""
        return self._ask({"want": "provenance"}, "scores", _to_provenance)

    def _images(self, want: str, stage: str) -> Iterator[KeyFrame]:
        with self._believing_nothing():
            self.decoder.ask({"want": want})
        for number, (index, at, difference) in enumerate(self.frames):
            image = self._hear(stage, number / len(self.frames), _to_image)
            yield KeyFrame(index, at, difference, image)

    def begin(self) -> None:
        """Have the key frames chosen."""
        if not self.decoder.clips:
            self._hear("key frames", 0.0, lambda *_: None)  # that it is ready
        self.decoder.most_pixels = self.settings.max_pixels
        path = os.path.abspath(self.video.path)
        request = {"path": path, "settings": asdict(self.settings)}
        with self._believing_nothing(), _opened(Path(path)) as file:
            self.decoder.ask(request, file)
        self._hear("key frames", 0.0, self._learn)

    def finish(self) -> None:
        """Have the clip closed: the decoder waits for the next."""
        self._ask({"want": "nothing"}, "scores", lambda *_: None)

    def _ask(self, request: dict[str, Any], stage: str, read: Reading[Told]) -> Told:
        with self._believing_nothing():
            self.decoder.ask(request)
        return self._hear(stage, 0.0, read)

    def _hear(self, stage: str, fraction: float, read: Reading[Told]) -> Told:
        """The next answer, with an eye on the clock and on whoever wants to cancel."""
        until = time.monotonic() + self.settings.max_decode_time + GRACE
        while True:
            with self._believing_nothing():
                answer = self.decoder.answer()
                if answer is not None and "progress" in answer[0]:
                    fraction = min(1.0, max(0.0, float(answer[0]["progress"])))
                elif answer is not None:
                    return self._read(*answer, read)
                if time.monotonic() > until:
                    raise TimeoutError
            self.progress(stage, fraction)

    def _read(self, header: dict[str, Any], pixels: bytearray, read: Reading[Told]) -> Told:
        self.decoder.idle = bool({"ready", "error", "failed"} & set(header))
        if "error" in header:
            code, message = header["error"]
            raise UserError(code if code in CODES else "unreadable_video", str(message)[:1000])
        if "failed" in header:
            LOG.error("a decoder failed:\n%s", str(header["failed"])[:10_000])
            raise UserError("internal", "Unmask's decoder failed at this file. The log says how.")
        return read(header, pixels)

    @contextmanager
    def _believing_nothing(self) -> Iterator[None]:
        """What goes wrong with a decoder, or is wrong with its answers, is the file's fault."""
        name = Path(self.video.path).name
        try:
            yield
        except UserError:
            raise
        except (Ended, TimeoutError) as error:
            if isinstance(error, TimeoutError) or self.decoder.end() == OUT_OF_TIME:
                raise UserError(
                    "decode_timeout",
                    f"Decoding {name} took longer than {self.settings.max_decode_time:.0f} s. "
                    "Cut out the part in question.",
                ) from error
            raise UserError(
                "unreadable_video",
                f"{name} cannot be decoded: the decoder broke off, which only damaged or "
                "malicious files make it do.",
            ) from error
        except (KeyError, TypeError, ValueError, OverflowError, ArithmeticError) as error:
            self.decoder.idle = False
            raise UserError(
                "unreadable_video", f"{name} cannot be decoded: what the decoder said is no answer."
            ) from error

    def _learn(self, header: dict[str, Any], _: bytearray) -> None:
        told, limits = header["video"], self.settings
        width, height = int(told["width"]), int(told["height"])
        frames = None if told["frames"] is None else int(told["frames"])
        rate, duration = Fraction(*told["rate"]), _finite(told["duration"])
        if not (0 < width * height <= limits.max_pixels and rate >= 0 and duration >= 0):
            raise ValueError(f"a clip of {told}")
        self.video = replace(
            self.video, width=width, height=height, rate=rate, duration=duration, frames=frames,
            codec=str(told["codec"])[:40], rotation=int(told["rotation"]) % 360,
        )  # fmt: skip
        self.frames = tuple((int(i), _finite(t), _finite(d)) for i, t, d in header["key_frames"])
        if not 0 < len(self.frames) <= limits.key_frames:
            raise ValueError(f"{len(self.frames)} key frames")
        times, differences = (np.asarray(row, np.float64) for row in header["curve"])
        if times.ndim != 1 or times.shape != differences.shape:
            raise ValueError("a curve of other lengths")
        self.curve = Curve(np.nan_to_num(times), np.nan_to_num(differences))
        self.warnings = tuple(str(text)[:1000] for text in header["warnings"][:20])


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is no number")
    return number


def _to_image(header: dict[str, Any], pixels: bytearray) -> Image:
    height, width, channels = (int(side) for side in header["shape"])
    if channels != 3 or min(height, width) < 1:
        raise ValueError(f"an image of {header['shape']}")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, channels)


def _to_provenance(header: dict[str, Any], _: bytearray) -> Provenance:
    sha256, state, signer, container, statements = header["provenance"]
    told = {str(k)[:200]: str(v)[:200] for k, v in container.items()}
    said = tuple(Statement(*(str(part)[:200] for part in parts)) for parts in statements[:20])
    signer = None if signer is None else str(signer)[:200]
    return Provenance(str(sha256)[:64], str(state)[:20], signer, told, said)


@contextmanager
def look(
    path: str | os.PathLike[str], settings: Settings, progress: Progress = silent
) -> Iterator[Look]:
    """Open a clip behind the fence. Cancelling, or leaving early, ends its decoder."""
    unknown = VideoInfo(os.fspath(path), 0, 0, Fraction(0), 0.0, None, "", 0)
    with fence().decoder(progress) as decoder:
        seen = Look(decoder, settings, progress, unknown)
        try:
            seen.begin()
            yield seen
            seen.finish()
        finally:
            give_memory_back()
