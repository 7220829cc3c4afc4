"""The process that opens strangers' files: `python -m detector.decoder`, started by fence.py.

It reads requests, one JSON object a line, and answers with a JSON object and pixels each. Whoever
asked believes none of it unchecked: see fence.py.
"""

import json
import os
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO

from detector import sandbox
from detector.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from detector.keyframes import Choice
    from detector.records import Frame, VideoInfo
    from detector.video import Clip

THUMBNAIL = 480  # pixels, longest side
PROGRESS_EVERY = 0.1  # seconds
HEAD = struct.Struct("<II")  # bytes of the JSON, bytes of the pixels


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
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    import cv2

    import detector.keyframes
    import detector.video  # noqa: F401  while the first request is on its way

    cv2.setNumThreads(1)
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
            import traceback

            answers.put({"failed": "".join(traceback.format_exception(error))})
        sandbox.give_memory_back()


def _listen(requests: "SimpleQueue[dict[str, Any]]") -> None:
    for line in sys.stdin.buffer:
        requests.put(json.loads(line))
    os._exit(0)  # whoever asked is gone


def _look(
    request: dict[str, Any], requests: "SimpleQueue[dict[str, Any]]", answers: Answers
) -> None:
    """Choose a clip's key frames, then give out what is asked of them until told to stop."""
    from detector.keyframes import choose_frames
    from detector.settings import Settings
    from detector.video import Clip

    settings = Settings(**request["settings"])
    sandbox.allow_seconds((os.cpu_count() or 1) * settings.max_decode_time)
    clip = Clip(request["path"], settings)
    try:
        choice = choose_frames(
            _watched(clip, answers), count=settings.key_frames,
            again=lambda: Clip(request["path"], settings),
        )  # fmt: skip
    finally:
        clip.close()
    answers.put(_describe(clip, choice))
    while (request := requests.get())["want"] != "nothing":
        if request["want"] == "provenance":
            answers.put({"provenance": _read_provenance(clip)})
        else:
            side = THUMBNAIL if request["want"] == "thumbnails" else None
            for key_frame in choice.key_frames(side):
                answers.put({}, key_frame.image)
    answers.put({"ready": True})


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
