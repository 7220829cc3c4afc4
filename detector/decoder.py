"""The process that opens strangers' files: `python -m detector.decoder`, started by fence.py.

It reads requests, one JSON object a line, each with the opened file that it is about, where the
system can hand one over; and it answers with a JSON object and pixels each. Whoever asked believes
none of it unchecked: see fence.py.
"""

import importlib
import json
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
PROGRESS_EVERY = 0.1  # seconds
HEAD = struct.Struct("<II")  # bytes of the JSON, bytes of the pixels
REQUEST = 1 << 16  # bytes of a request that are read at once

LOADED = (
    "c2pa", "cv2", "numpy.ma", "xml.etree.ElementTree", "av.audio.stream", "av.sidedata.encparams",
    "av.sidedata.motionvectors", "av.subtitles.stream", "encodings.cp1252", "encodings.idna",
    "encodings.latin_1", "encodings.utf_16", "encodings.utf_16_be", "encodings.utf_16_le",
    "encodings.utf_32",
    "detector.keyframes", "detector.provenance", "detector.settings", "detector.video",
)  # fmt: skip
"""What decoding may need: later nothing can be loaded."""

Request = dict[str, Any]


class Answers:
    """Where answers go."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def put(self, header: dict[str, Any], pixels: "np.ndarray | None" = None) -> None:
        """One answer."""
        if pixels is not None:
            import numpy as np

            # A picture may be a view with gaps between its lines, which no stream takes.
            pixels = np.ascontiguousarray(pixels)
            header = {**header, "shape": pixels.shape}
        text = json.dumps(header).encode()
        self._stream.write(HEAD.pack(len(text), 0 if pixels is None else pixels.nbytes) + text)
        if pixels is not None:
            self._stream.write(pixels.data)
        self._stream.flush()


def main() -> None:
    """Enter the sandbox, then answer until nobody asks any more."""
    answers = Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # what a library prints is no answer
    sandbox.enter()
    _load()
    if hands_over():
        sandbox.open_no_more()
    requests: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    answers.put({"ready": True})
    while True:
        request = requests.get()
        try:
            _look(request, requests, answers)
        except UserError as error:
            answers.put({"error": [error.code, error.message]})
        except MemoryError:
            answers.put({"error": ["unreadable_video", "It takes too much memory to decode."]})
        except Exception as error:  # noqa: BLE001  told to whoever asked, who logs it
            answers.put({"failed": "".join(traceback.format_exception(error))})
        sandbox.give_memory_back()


def hands_over() -> bool:
    """Whether requests come over a socket, by which an opened file can be handed over."""
    return hasattr(socket, "recv_fds") and stat.S_ISSOCK(os.fstat(0).st_mode)


def _load() -> None:
    """All libraries, and what they read when they are used for the first time."""
    for name in LOADED:
        with suppress(ImportError):  # c2pa is not there on every system
            importlib.import_module(name)
    import mimetypes

    import cv2
    import PIL.Image

    cv2.setNumThreads(1)
    mimetypes.init()
    PIL.Image.init()
    time.localtime()


def _listen(requests: "SimpleQueue[Request]") -> None:
    if hands_over():
        _listen_to_socket(requests)
    else:
        for line in sys.stdin.buffer:
            requests.put(json.loads(line))
    os._exit(0)  # whoever asked is gone


def _listen_to_socket(requests: "SimpleQueue[Request]") -> None:
    held, handed = b"", list[int]()
    with socket.socket(fileno=os.dup(0)) as line:
        while True:
            read, descriptors, _, _ = socket.recv_fds(line, REQUEST, 1)
            if not read:
                return
            held, handed = held + read, [*handed, *descriptors]
            *whole, held = held.split(b"\n")
            for text in whole:
                request = json.loads(text)
                if request.get("handed"):
                    request["descriptor"] = handed.pop(0)
                requests.put(request)


def _look(request: Request, requests: "SimpleQueue[Request]", answers: Answers) -> None:
    """Open a clip, or read the one that was handed over."""
    path, descriptor = Path(request["path"]), request.get("descriptor")
    with nullcontext() if descriptor is None else handed_over(path, descriptor):
        _look_at(path, request, requests, answers)


def _look_at(
    path: Path, request: Request, requests: "SimpleQueue[Request]", answers: Answers
) -> None:
    """Choose a clip's key frames, then give out what is asked of them until told to stop."""
    from detector.keyframes import can_be_held, choose_frames
    from detector.settings import Settings
    from detector.video import Clip

    settings = Settings(**request["settings"])
    sandbox.allow_seconds((os.cpu_count() or 1) * settings.max_decode_time)
    clip = Clip(path, settings)
    end = clip.until
    if not can_be_held(clip.info.width * clip.info.height * 3 // 2, settings.key_frames):
        clip.until -= settings.max_decode_time / 2  # the other half is for reading it again

    def read_again() -> Clip:
        second = Clip(path, settings)
        second.until = end
        return second

    try:
        choice = choose_frames(
            _watched(clip, answers), count=settings.key_frames,
            again=read_again,
        )  # fmt: skip
    finally:
        clip.close()
    warn_of_fewer(clip, len(choice.frames))
    answers.put(_describe(clip, choice))
    while (request := requests.get())["want"] != "nothing":
        if request["want"] == "provenance":
            answers.put({"provenance": _read_provenance(clip)})
        else:
            side = THUMBNAIL if request["want"] == "thumbnails" else None
            for key_frame in choice.key_frames(side):
                answers.put({}, key_frame.image)
    answers.put({"ready": True})


def warn_of_fewer(clip: "Clip", count: int) -> None:
    """Say so where a limit left fewer key frames than were asked for."""
    if not count:
        raise UserError("decode_timeout", "Decoding took too long for a single frame to be kept.")
    wanted = min(clip.settings.key_frames, clip.frames_read)
    if count < wanted:
        clip.warnings.append(
            f"{count} key frames were looked at, not {wanted}: the clip's frames are too large to "
            "hold more of them, or take too long to decode."
        )


def _watched(clip: "Clip", answers: Answers) -> "Iterator[Frame]":
    told, duration = time.monotonic(), clip.info.duration or 1.0
    for frame in clip:
        if time.monotonic() - told > PROGRESS_EVERY:
            told = time.monotonic()
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

    told = read_provenance(Path(clip.file), clip.metadata)
    statements = [[s.kind, s.who, s.where] for s in told.statements]
    return [told.sha256, told.content_credentials, told.signer, told.container, statements]


if __name__ == "__main__":
    main()
