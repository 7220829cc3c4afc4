"""Decode untrusted files in separate, sandboxed processes that are kept running between clips.

Each decoder process handles one clip at a time. If it crashes, hangs or reaches a limit, it is
killed and replaced, and only its clip fails. Its answers are JSON and pixels, which are validated
here, because a malicious file may have taken the process over.

Decoders are started as programs, not forked or spawned by `multiprocessing`: so a script without a
`__main__` guard is not run again. A `ProcessPoolExecutor` would also fail all tasks when one
process crashes, and could not stream frames.
"""

import atexit
import json
import math
import mmap
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
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from detector.decoder import HEAD, SLOT_BYTES, SLOTS, THUMBNAIL
from detector.errors import CODES, LOG, UserError
from detector.records import Curve, Image, KeyFrame, Provenance, Statement, VideoInfo
from detector.sandbox import give_memory_back
from detector.settings import Progress, Settings, silent

MAX_DECODERS = max(2, min(4, os.cpu_count() or 2))  # running at the same time
MAX_CLIPS = 100  # after which a decoder is replaced
MAX_JSON_BYTES = 64 * 2**20
POLL_SECONDS = 0.2  # between checks whether the scan was cancelled
GRACE_SECONDS = 5.0  # beyond the time limit, in which a decoder can report the timeout itself
PASSED_VARIABLES = {
    "PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LANG",
    "LC_ALL", "VIRTUAL_ENV",
}  # fmt: skip
"""The environment variables that a decoder gets: none that may hold a token or a password."""

THREAD_VARIABLES = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "4"}
"""One thread a core would exceed the limit on address space on machines with many cores."""

ARGUMENTS = ("-P", "-m", "detector.decoder")
"""Arguments of Python. With -P, an av.py in the current folder is not imported as the library."""

CPU_LIMIT_CODE = -int(getattr(signal, "SIGXCPU", 0))
"""Return code of a process that used up its processor time."""

Value = TypeVar("Value")
Parser = Callable[[dict[str, Any], bytearray], Value]
"""Validates an answer's JSON and pixels and converts them to a value."""


class DecoderEndedError(Exception):
    """The decoder process has ended."""


class Decoder:
    """A decoder process and the connection to it."""

    def __init__(self) -> None:
        home = str(Path(__file__).resolve().parent.parent)
        kept = {name: value for name, value in os.environ.items() if name in PASSED_VARIABLES}
        paths = [home, *(path for path in sys.path if path)]
        self.clips = 0
        self.idle = False
        """Whether it waits for a clip. A decoder that is released while it works is killed."""
        self.most_pixels = 0
        self._connection, theirs = _make_connection()
        self.shared: mmap.mmap | None = None
        """Where the decoder leaves pictures; None if the system cannot share memory."""
        with _shared_memory() as handed:
            for descriptor in handed:
                self.shared = mmap.mmap(
                    descriptor, SLOTS * SLOT_BYTES, mmap.MAP_SHARED, mmap.PROT_READ
                )
            self._process = subprocess.Popen(
                [sys.executable, *ARGUMENTS, *map(str, handed)],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**kept, **THREAD_VARIABLES, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is sent to this process alone
                pass_fds=handed,
            )
        theirs.close()
        assert self._process.stdout is not None
        self._stream = self._process.stdout
        self._answers: queue.Queue[tuple[Any, bytearray] | None] = queue.Queue(2)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, request: dict[str, Any], file: int | None = None) -> None:
        """Send a request, with an open file descriptor if the system can pass one.

        Raises:
            DecoderEndedError: the process has ended.
        """
        self.idle = False
        try:
            if isinstance(self._connection, socket.socket):
                text = json.dumps({**request, "handed": file is not None}).encode() + b"\n"
                sent = 0
                if file is not None:
                    sent = socket.send_fds(self._connection, [text], [file])
                self._connection.sendall(text[sent:])
            else:
                self._connection.write(json.dumps(request).encode() + b"\n")
                self._connection.flush()
        except (OSError, ValueError) as error:
            raise DecoderEndedError from error

    def receive(self) -> tuple[Any, bytearray] | None:
        """Return the next answer's JSON and pixels; None if none came within POLL_SECONDS.

        Raises:
            DecoderEndedError: the process has ended and all its answers were received.
        """
        try:
            answer = self._answers.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return None
        if answer is None:
            self._answers.put(None)  # the next call raises too
            raise DecoderEndedError
        return answer

    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def kill(self) -> int:
        """Kill the process if it is running, and return its return code."""
        self._process.kill()
        code = self._process.wait()
        while self._reader.is_alive():  # it may be blocked on a full queue
            with suppress(queue.Empty):
                self._answers.get_nowait()
            self._reader.join(0.01)
        for opened in (self._connection, self._stream, self.shared):
            with suppress(OSError, BufferError):
                if opened is not None:
                    opened.close()
        return code

    def _read(self) -> None:
        """Put answers into the queue; runs in a thread, so that `receive` can time out."""
        try:
            while len(head := self._stream.read(HEAD.size)) == HEAD.size:
                text, size = HEAD.unpack(head)
                if text > MAX_JSON_BYTES or size > 3 * self.most_pixels:
                    break
                header, pixels = json.loads(self._stream.read(text)), bytearray(size)
                room = memoryview(pixels)
                while room and (count := self._stream.readinto(room)):  # type: ignore[attr-defined]
                    room = room[count:]
                self._answers.put((header, pixels))
        except (OSError, ValueError):
            pass
        self._answers.put(None)


def _make_connection() -> tuple[socket.socket | BinaryIO, socket.socket | BinaryIO]:
    """Both ends of a connection: a socket if it can pass file descriptors, otherwise a pipe."""
    if hasattr(socket, "send_fds"):
        return socket.socketpair()
    theirs, ours = os.pipe()
    return os.fdopen(ours, "wb"), os.fdopen(theirs, "rb")


@contextmanager
def _shared_memory() -> Iterator[tuple[int, ...]]:
    """A descriptor of memory for SLOTS pictures, to pass on; none where the system has no such.

    Its size is sealed: if a decoder could reduce it, reading it would crash this process.
    """
    try:
        import fcntl

        descriptor = os.memfd_create("pictures", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (ImportError, AttributeError, OSError):  # only Linux has it
        yield ()
        return
    try:
        os.ftruncate(descriptor, SLOTS * SLOT_BYTES)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        yield (descriptor,)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """Open a file to pass it on; None if it cannot be opened, which the decoder then reports."""
    descriptor = None
    with suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        regular = descriptor is not None and stat.S_ISREG(os.fstat(descriptor).st_mode)
        yield descriptor if regular else None
    finally:
        if descriptor is not None:
            os.close(descriptor)


class DecoderPool:
    """The decoder processes that this process uses."""

    def __init__(self, size: int = MAX_DECODERS) -> None:
        self.process = os.getpid()
        self._free = threading.Semaphore(size)
        self._idle: list[Decoder] = []
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Start a decoder unless one is idle, so that the next clip need not wait for it to load.

        This does not wait until it has loaded.
        """
        with self._lock:
            if not self._idle:
                self._idle.append(Decoder())

    @contextmanager
    def decoder(self, progress: Progress) -> Iterator[Decoder]:
        """Reserve a decoder for one clip. `progress` may raise to stop waiting for a free one."""
        while not self._free.acquire(timeout=POLL_SECONDS):
            progress("key frames", 0.0)
        try:
            decoder = self._take()
            try:
                yield decoder
            finally:
                decoder.clips += 1
                if decoder.idle and decoder.is_alive() and decoder.clips < MAX_CLIPS:
                    with self._lock:
                        self._idle.append(decoder)
                else:
                    decoder.kill()
                    self.warm_up()
        finally:
            self._free.release()

    def _take(self) -> Decoder:
        with self._lock:
            while self._idle:
                decoder = self._idle.pop()
                if decoder.is_alive():
                    return decoder
                decoder.kill()
        return Decoder()

    def close(self) -> None:
        """Kill the idle decoders."""
        with self._lock:
            for decoder in self._idle:
                decoder.kill()
            self._idle.clear()


_pools: list[DecoderPool] = []
_lock = threading.Lock()


def decoder_pool() -> DecoderPool:
    """Return this process's pool, created at the first call; a forked process gets its own."""
    with _lock:
        if not _pools or _pools[0].process != os.getpid():
            _pools[:] = [DecoderPool()]
            atexit.register(_pools[0].close)
        return _pools[0]


@dataclass
class RemoteClip:
    """A clip that is open in a decoder process: its description, and requests for its content.

    All methods raise UserError if the file cannot be decoded or `progress` cancels.
    """

    decoder: Decoder
    settings: Settings
    progress: Progress
    video: VideoInfo
    curve: Curve = field(default_factory=lambda: Curve(np.zeros(0), np.zeros(0)))
    warnings: tuple[str, ...] = ()
    frames: tuple[tuple[int, float, float], ...] = ()
    """Index, time and difference of each key frame."""

    def thumbnails(self) -> Iterator[KeyFrame]:
        """The key frames, reduced to thumbnails."""
        return self._images(THUMBNAIL, "key frames")

    def key_frames(self) -> Iterator[KeyFrame]:
        """The key frames at full size, one at a time."""
        return self._images(None, "faces")

    def provenance(self) -> Provenance:
        """What the file states about its own origin."""
        return self._request({"want": "provenance"}, "scores", _to_provenance)

    def _images(self, side: int | None, stage: str) -> Iterator[KeyFrame]:
        """Request the key frames, at most `side` pixels long, each before it is needed."""
        for number in range(SLOTS):
            self._request_image(number, side)
        for number, (index, at, difference) in enumerate(self.frames):
            parse = partial(self._to_image, number % SLOTS)
            image = self._receive(stage, number / len(self.frames), parse)
            self._request_image(number + SLOTS, side)
            yield KeyFrame(index, at, difference, image)

    def _request_image(self, number: int, side: int | None) -> None:
        if number < len(self.frames):
            request = {"want": "picture", "number": number, "side": side, "slot": number % SLOTS}
            with self._as_user_errors():
                self.decoder.send(request)

    def _to_image(self, slot: int, header: dict[str, Any], pixels: bytearray) -> Image:
        height, width, channels = (int(side) for side in header["shape"])
        if channels != 3 or min(height, width) < 1:
            raise ValueError(f"invalid image shape {header['shape']}")
        if "shared" not in header:
            return np.frombuffer(pixels, np.uint8).reshape(height, width, channels)
        size = height * width * channels
        if self.decoder.shared is None or size > SLOT_BYTES:
            raise ValueError(f"invalid image of {size} bytes in shared memory")
        there = np.frombuffer(self.decoder.shared, np.uint8, size, slot * SLOT_BYTES)
        return there.reshape(height, width, channels).copy()  # the decoder can change what is there

    def open(self) -> None:
        """Open the clip and choose its key frames."""
        if not self.decoder.clips:
            self._receive("key frames", 0.0, lambda *_: None)  # a new decoder says that it is ready
        self.decoder.most_pixels = self.settings.max_pixels
        path = os.path.abspath(self.video.path)
        request = {"path": path, "settings": asdict(self.settings)}
        with self._as_user_errors(), _opened(Path(path)) as file:
            self.decoder.send(request, file)
        self._receive("key frames", 0.0, self._set_description)

    def close(self) -> None:
        """Close the clip; the decoder then waits for the next one."""
        self._request({"want": "nothing"}, "scores", lambda *_: None)

    def _request(self, request: dict[str, Any], stage: str, parse: Parser[Value]) -> Value:
        with self._as_user_errors():
            self.decoder.send(request)
        return self._receive(stage, 0.0, parse)

    def _receive(self, stage: str, fraction: float, parse: Parser[Value]) -> Value:
        """Wait for the next answer, reporting progress, until the time limit is over."""
        until = time.monotonic() + self.settings.max_decode_time + GRACE_SECONDS
        while True:
            with self._as_user_errors():
                answer = self.decoder.receive()
                if answer is not None and "progress" in answer[0]:
                    fraction = min(1.0, max(0.0, float(answer[0]["progress"])))
                elif answer is not None:
                    return self._parse(*answer, parse)
                if time.monotonic() > until:
                    raise TimeoutError
            self.progress(stage, fraction)

    def _parse(self, header: dict[str, Any], pixels: bytearray, parse: Parser[Value]) -> Value:
        self.decoder.idle = bool({"ready", "error", "failed"} & set(header))
        if "error" in header:
            code, message = header["error"]
            raise UserError(code if code in CODES else "unreadable_video", str(message)[:1000])
        if "failed" in header:
            LOG.error("A decoder failed:\n%s", str(header["failed"])[:10_000])
            raise UserError("internal", "Unmask's decoder failed on this file. The log says why.")
        return parse(header, pixels)

    @contextmanager
    def _as_user_errors(self) -> Iterator[None]:
        """Convert a decoder's failures and invalid answers to UserErrors about the file."""
        name = Path(self.video.path).name
        try:
            yield
        except UserError:
            raise
        except (DecoderEndedError, TimeoutError) as error:
            if isinstance(error, TimeoutError) or self.decoder.kill() == CPU_LIMIT_CODE:
                raise UserError(
                    "decode_timeout",
                    f"Decoding {name} took longer than {self.settings.max_decode_time:.0f} s. "
                    "Cut out the part in question.",
                ) from error
            raise UserError(
                "unreadable_video",
                f"{name} cannot be decoded: the decoder crashed. The file is damaged or malicious.",
            ) from error
        except (KeyError, TypeError, ValueError, OverflowError, ArithmeticError) as error:
            self.decoder.idle = False
            raise UserError(
                "unreadable_video", f"{name} cannot be decoded: the decoder's answer is not valid."
            ) from error

    def _set_description(self, header: dict[str, Any], _: bytearray) -> None:
        info, limits = header["video"], self.settings
        width, height = int(info["width"]), int(info["height"])
        frames = None if info["frames"] is None else int(info["frames"])
        rate, duration = Fraction(*info["rate"]), _finite(info["duration"])
        if not (0 < width * height <= limits.max_pixels and rate >= 0 and duration >= 0):
            raise ValueError(f"invalid description: {info}")
        self.video = replace(
            self.video, width=width, height=height, rate=rate, duration=duration, frames=frames,
            codec=str(info["codec"])[:40], rotation=int(info["rotation"]) % 360,
        )  # fmt: skip
        self.frames = tuple((int(i), _finite(t), _finite(d)) for i, t, d in header["key_frames"])
        if not 0 < len(self.frames) <= limits.key_frames:
            raise ValueError(f"{len(self.frames)} key frames")
        times, differences = (np.asarray(row, np.float64) for row in header["curve"])
        if times.ndim != 1 or times.shape != differences.shape:
            raise ValueError("times and differences differ in length")
        self.curve = Curve(np.nan_to_num(times), np.nan_to_num(differences))
        self.warnings = tuple(str(text)[:1000] for text in header["warnings"][:20])


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} is not finite")
    return number


def _to_provenance(header: dict[str, Any], _: bytearray) -> Provenance:
    sha256, state, signer, container, statements = header["provenance"]
    fields = {str(k)[:200]: str(v)[:200] for k, v in container.items()}
    kept = tuple(Statement(*(str(part)[:200] for part in parts)) for parts in statements[:20])
    signer = None if signer is None else str(signer)[:200]
    return Provenance(str(sha256)[:64], str(state)[:20], signer, fields, kept)


@contextmanager
def open_clip(
    path: str | os.PathLike[str], settings: Settings, progress: Progress = silent
) -> Iterator[RemoteClip]:
    """Open a clip in a decoder process and choose its key frames.

    Leaving the context by an exception, or before all requested frames were read, kills the
    decoder; the next clip gets another one.

    Args:
        path: the file.
        settings: the limits and the number of key frames.
        progress: called with a stage and its fraction; may raise UserError to cancel.

    Raises:
        UserError: the file cannot be decoded; see its `code`.
    """
    unknown = VideoInfo(os.fspath(path), 0, 0, Fraction(0), 0.0, None, "", 0)
    with decoder_pool().decoder(progress) as decoder:
        clip = RemoteClip(decoder, settings, progress, unknown)
        try:
            clip.open()
            yield clip
            clip.close()
        finally:
            give_memory_back()
