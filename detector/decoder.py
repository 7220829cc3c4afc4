"""The sandboxed process that decodes untrusted files: `python -m detector.decoder`.

fence.py starts it and validates what it answers. A request is a line of JSON; where the system can
pass file descriptors, the clip's comes with it. An answer is a header (the lengths of what
follows), JSON and pixels. Where both processes share memory, the pixels are left there: a copy
takes a third of the time that they need through a pipe.
"""

import importlib
import json
import mmap
import os
import socket
import stat
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

from detector import sandbox
from detector.errors import UserError
from detector.opened import handed_over

if TYPE_CHECKING:
    import numpy as np

    from detector.keyframes import Choice
    from detector.records import Frame, VideoInfo
    from detector.video import Clip

THUMBNAIL = 480  # pixels, longest side
PROGRESS_SECONDS = 0.1  # between two progress messages
HEAD = struct.Struct("<II")  # lengths of the JSON and of the pixels, bytes
READ_BYTES = 1 << 16  # of requests, at a time
SLOT_BYTES = 3 * 2**24  # of shared memory for one picture; larger ones come through the pipe
SLOTS = 2  # pictures in shared memory: one is read while the next is decoded

PRELOADED = (
    "c2pa", "cv2", "numpy.ma", "xml.etree.ElementTree", "av.audio.stream", "av.sidedata.encparams",
    "av.sidedata.motionvectors", "av.subtitles.stream", "encodings.cp1252", "encodings.idna",
    "encodings.latin_1", "encodings.utf_16", "encodings.utf_16_be", "encodings.utf_16_le",
    "encodings.utf_32",
    "detector.keyframes", "detector.provenance", "detector.settings", "detector.video",
)  # fmt: skip
"""All modules that decoding may import: once the sandbox is closed, none can be loaded."""

Request = dict[str, Any]


class Answers:
    """Writes answers to a stream, and pictures to shared memory if there is any."""

    def __init__(self, stream: BinaryIO, shared: mmap.mmap | None) -> None:
        self._stream, self._shared = stream, shared

    def put_picture(self, pixels: "np.ndarray", slot: int) -> None:
        """Write a picture: to a slot of the shared memory, or else to the stream."""
        import numpy as np

        if self._shared is None or pixels.nbytes > SLOT_BYTES:
            # FFmpeg pads rows, so an image may be a view that is not contiguous.
            self.put({"shape": pixels.shape}, np.ascontiguousarray(pixels))
            return
        room = np.ndarray(pixels.shape, np.uint8, self._shared, slot * SLOT_BYTES)
        np.copyto(room, pixels)
        self.put({"shape": pixels.shape, "shared": True})

    def give_memory_back(self) -> None:
        """Return freed memory and the pages of the shared memory to the system."""
        if self._shared is not None:
            self._shared.madvise(mmap.MADV_REMOVE)
        sandbox.give_memory_back()

    def put(self, header: dict[str, Any], pixels: "np.ndarray | None" = None) -> None:
        """Write one answer."""
        text = json.dumps(header).encode()
        self._stream.write(HEAD.pack(len(text), 0 if pixels is None else pixels.nbytes) + text)
        if pixels is not None:
            self._stream.write(pixels.data)
        self._stream.flush()


def main() -> None:
    """Enter the sandbox, then serve requests until the connection is closed."""
    answers = Answers(os.fdopen(os.dup(1), "wb"), _map_shared_memory())
    os.dup2(2, 1)  # what a library prints must not mix with the answers
    sandbox.enter()
    _preload()
    if receives_files():
        sandbox.forbid_opening()
    requests: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    answers.put({"ready": True})
    while True:
        request = requests.get()
        if "path" not in request:  # asked before it was known that the clip before had failed
            continue
        try:
            _serve(request, requests, answers)
        except UserError as error:
            answers.put({"error": [error.code, error.message]})
        except MemoryError:
            answers.put({"error": ["unreadable_video", "Decoding it takes too much memory."]})
        except Exception as error:  # noqa: BLE001  fence.py logs it
            answers.put({"failed": "".join(traceback.format_exception(error))})
        answers.give_memory_back()


def _map_shared_memory() -> mmap.mmap | None:
    """Map the memory whose descriptor is the only argument; None without one."""
    if len(sys.argv) < 2:
        return None
    descriptor = int(sys.argv[1])
    shared = mmap.mmap(descriptor, SLOTS * SLOT_BYTES)
    os.close(descriptor)
    return shared


def receives_files() -> bool:
    """Whether standard input is a socket that can pass file descriptors."""
    return hasattr(socket, "recv_fds") and stat.S_ISSOCK(os.fstat(0).st_mode)


def _preload() -> None:
    """Import all modules, and make the libraries read what they would read at first use."""
    for name in PRELOADED:
        with suppress(ImportError):  # c2pa is not available on every system
            importlib.import_module(name)
    import mimetypes

    import cv2
    import PIL.Image

    cv2.setNumThreads(1)
    mimetypes.init()
    PIL.Image.init()
    time.localtime()


def _listen(requests: "SimpleQueue[Request]") -> None:
    if receives_files():
        _listen_to_socket(requests)
    else:
        for line in sys.stdin.buffer:
            requests.put(json.loads(line))
    os._exit(0)  # the connection was closed


def _listen_to_socket(requests: "SimpleQueue[Request]") -> None:
    pending, files = b"", list[int]()
    with socket.socket(fileno=os.dup(0)) as line:
        while True:
            read, descriptors, _, _ = socket.recv_fds(line, READ_BYTES, 1)
            if not read:
                return
            pending, files = pending + read, [*files, *descriptors]
            *lines, pending = pending.split(b"\n")
            for text in lines:
                request = json.loads(text)
                if request.get("handed"):
                    request["descriptor"] = files.pop(0)
                requests.put(request)


def _serve(request: Request, requests: "SimpleQueue[Request]", answers: Answers) -> None:
    """Serve all requests about one clip, from its path or from the descriptor that was passed."""
    path, descriptor = Path(request["path"]), request.get("descriptor")
    with nullcontext() if descriptor is None else handed_over(path, descriptor):
        _serve_clip(path, request, requests, answers)


def _serve_clip(
    path: Path, request: Request, requests: "SimpleQueue[Request]", answers: Answers
) -> None:
    """Choose a clip's key frames, then send what is requested until the clip is closed."""
    from detector.keyframes import can_be_held, choose_frames
    from detector.settings import Settings
    from detector.video import Clip

    settings = Settings(**request["settings"])
    sandbox.allow_seconds((os.cpu_count() or 1) * settings.max_decode_time)
    clip = Clip(path, settings)
    end = clip.until
    if not can_be_held(clip.info.width * clip.info.height * 3 // 2, settings.key_frames):
        clip.decoded_twice = True
        clip.until -= settings.max_decode_time / 2  # the other half is for the second pass

    def read_again() -> Clip:
        second = Clip(path, settings)
        second.decoded_twice, second.until = True, end
        return second

    try:
        choice = choose_frames(
            _watched(clip, answers), count=settings.key_frames,
            again=read_again,
        )  # fmt: skip
    finally:
        clip.close()
    sandbox.give_memory_back()  # of the frames that were not chosen, a quarter of a gigabyte
    warn_of_fewer(clip, len(choice.frames))
    answers.put(_describe(clip, choice))
    while (request := requests.get())["want"] != "nothing":
        if request["want"] == "provenance":
            answers.put({"provenance": _read_provenance(clip)})
        else:
            frame, _ = choice.frames[request["number"]]
            answers.put_picture(frame.shrink(request["side"]), request["slot"])
    answers.put({"ready": True})


def warn_of_fewer(clip: "Clip", count: int) -> None:
    """Append a warning if a limit left fewer key frames than the settings ask for.

    Raises:
        UserError: `decode_timeout` if there is none at all.
    """
    if not count:
        raise UserError("decode_timeout", "Decoding took too long for a single frame to be kept.")
    wanted = min(clip.settings.key_frames, clip.frames_read)
    if count < wanted:
        clip.warnings.append(
            f"{count} key frames were looked at, not {wanted}: the clip's frames are too large to "
            "hold more of them, or take too long to decode."
        )


def _watched(clip: "Clip", answers: Answers) -> "Iterator[Frame]":
    """The clip's frames, with progress messages sent in between."""
    sent, duration = time.monotonic(), clip.info.duration or 1.0
    for frame in clip:
        if time.monotonic() - sent > PROGRESS_SECONDS:
            sent = time.monotonic()
            answers.put({"progress": min(1.0, frame.time / duration)})
        yield frame


def _describe(clip: "Clip", choice: "Choice") -> dict[str, Any]:
    info: VideoInfo = clip.info
    return {
        "video": {
            "width": info.width, "height": info.height, "rate": info.rate.as_integer_ratio(),
            "duration": info.duration, "frames": info.frames, "codec": info.codec,
            "rotation": info.rotation,
        },
        "key_frames": [[f.index, f.time, difference] for f, difference in choice.frames],
        "curve": [choice.curve.times.tolist(), choice.curve.differences.tolist()],
        "warnings": clip.warnings,
    }  # fmt: skip


def _read_provenance(clip: "Clip") -> list[Any]:
    from detector.provenance import read_provenance

    found = read_provenance(Path(clip.file), clip.metadata)
    statements = [[s.kind, s.who, s.where] for s in found.statements]
    return [found.sha256, found.content_credentials, found.signer, found.container, statements]


if __name__ == "__main__":
    main()
