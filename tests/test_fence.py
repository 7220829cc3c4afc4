"""Decoders crash, hang, eat memory and lie; whoever asked them goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clips import face_clip, texture, write_clip

from detector import fence as module
from detector.errors import UserError
from detector.fence import DecoderPool, open_clip
from detector.keyframes import choose_frames
from detector.provenance import hash_file
from detector.scoring import Detector
from detector.settings import Settings
from detector.video import Clip

ROOT = Path(__file__).parent.parent
linux = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux can forbid")


@pytest.fixture
def fenced(monkeypatch: pytest.MonkeyPatch) -> Iterator[DecoderPool]:
    """A pool of one decoder."""
    own = DecoderPool(1)
    monkeypatch.setattr(module, "decoder_pool", lambda: own)
    yield own
    own.close()


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch, fenced: DecoderPool) -> object:
    """A decoder that runs other code, with `say(header, pixels)` to answer by."""
    say = (
        "import sys, json, struct, time, os\n"
        "def say(header, pixels=b'', size=None):\n"
        "    text = json.dumps(header).encode()\n"
        "    head = struct.pack('<II', len(text), len(pixels) if size is None else size)\n"
        "    sys.stdout.buffer.write(head + text + pixels); sys.stdout.flush()\n"
        "say({'ready': True})\n"
        "sys.stdin.readline()\n"
    )
    return lambda code: monkeypatch.setattr(module, "ARGUMENTS", ("-c", say + code))


def test_a_width_that_leaves_gaps_between_a_pictures_lines_is_no_hang(
    fenced: DecoderPool, tmp_path: Path
) -> None:
    frames = [np.roll(texture(1, 854, 480), 4 * n, axis=1) for n in range(6)]
    path = write_clip(tmp_path / "wide.mp4", frames)
    with open_clip(path, Settings(key_frames=3, max_decode_time=30)) as seen:
        whole = list(seen.key_frames())
    assert [k.image.shape for k in whole] == [(480, 854, 3)] * 3
    assert np.abs(whole[0].image.astype(int) - frames[whole[0].index]).mean() < 8


def test_a_look_tells_what_the_clip_tells(fenced: DecoderPool, face_video: Path) -> None:
    settings = Settings(key_frames=6)
    clip = Clip(face_video, settings)
    expected = choose_frames(clip, count=6)
    with open_clip(face_video, settings) as seen:
        small = list(seen.thumbnails())
        whole = list(seen.key_frames())
        told = seen.provenance()
    assert seen.video == clip.info
    assert np.array_equal(seen.curve.times, expected.curve.times)
    assert np.array_equal(seen.curve.differences, expected.curve.differences)
    for key_frame, other in zip(whole, expected.key_frames(), strict=True):
        assert key_frame == other
        assert np.array_equal(key_frame.image, other.image)
        assert key_frame.image.flags.writeable
    assert [k.index for k in small] == [k.index for k in whole]
    assert told.sha256 == hash_file(face_video)


def test_a_decoder_is_kept_for_the_next_clip(
    fenced: DecoderPool, face_video: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video", encoding="utf-8")
    with open_clip(face_video, Settings()) as first:
        pass
    with pytest.raises(UserError), open_clip(bad, Settings()):
        pass
    with open_clip(face_video, Settings()) as second:
        pass
    assert first.decoder is second.decoder
    assert fenced._idle == [first.decoder]


BIG = "{'width': 10**9, 'height': 10**9, 'rate': [25, 1], 'duration': 1.0, 'frames': 1,"
GOOD = "{'width': 4, 'height': 4, 'rate': [25, 1], 'duration': 1.0, 'frames': 1,"
REST = " 'codec': 'x', 'rotation': 0}, 'curve': [[0.0], [0.0]], 'warnings': [], 'key_frames': "
LIES = {
    "crash": "os.kill(os.getpid(), 11)",
    "silence": "sys.exit()",
    "garbage": "os.write(1, b'\\xff' * 100)",
    "endless text": "say({}, size=0); os.write(1, struct.pack('<II', 2**31, 0))",
    "endless pixels": "say({'ready': True}, size=2**31)",
    "no JSON": "os.write(1, struct.pack('<II', 4, 0) + b'{{{{')",
    "a list": "say([1, 2])",
    "nothing told": "say({})",
    "a huge frame": f"say({{'video': {BIG}{REST}[[0, 0.0, 0.0]]}})",
    "no frames": f"say({{'video': {GOOD}{REST}[]}})",
    "too many": f"say({{'video': {GOOD}{REST}[[0, 0.0, 0.0]] * 999}})",
    "not a number": f"say({{'video': {GOOD}{REST}[[0, float('nan'), 0.0]]}})",
    "a wrong rate": f"say({{'video': {GOOD.replace('25, 1', '25, 0')}{REST}[[0, 0.0, 0.0]]}})",
    "words": "say({'video': 'words'})",
    "an unknown error": "say({'error': ['root', 'x']})",
    "half an error": "say({'error': 7})",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_decoder_that_crashes_or_lies_costs_its_clip_alone(
    lying: object, fenced: DecoderPool, face_video: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    honest = module.ARGUMENTS
    lying(LIES[lie])  # type: ignore[operator]
    with pytest.raises(UserError) as caught, open_clip(face_video, Settings()):
        pass
    assert caught.value.code == "unreadable_video"
    monkeypatch.setattr(module, "ARGUMENTS", honest)
    fenced.close()
    with open_clip(face_video, Settings(key_frames=2)) as seen:
        assert len(list(seen.key_frames())) == 2


def test_a_picture_of_another_size_is_no_picture(lying: object, face_video: Path) -> None:
    lying(f"say({{'video': {GOOD}{REST}[[0, 0.0, 0.0]]}}); sys.stdin.readline()\n"  # type: ignore[operator]
          "say({'shape': [4, 4, 3]}, b'x' * 47)")  # fmt: skip
    with pytest.raises(UserError) as caught, open_clip(face_video, Settings()) as seen:
        list(seen.key_frames())
    assert caught.value.code == "unreadable_video"


@linux
@pytest.mark.parametrize("shape", [[2**12, 2**13, 3], [-1, -1, 3], [4, 4, 4], "x"])
def test_shared_memory_is_not_read_beyond_a_picture(
    lying: object, face_video: Path, shape: object
) -> None:
    lying(f"say({{'video': {GOOD}{REST}[[0, 0.0, 0.0]]}}); sys.stdin.readline()\n"  # type: ignore[operator]
          f"say({{'shape': {shape!r}, 'shared': True}})")  # fmt: skip
    with pytest.raises(UserError) as caught, open_clip(face_video, Settings()) as seen:
        list(seen.key_frames())
    assert caught.value.code == "unreadable_video"


@linux
def test_a_decoder_cannot_resize_the_shared_memory(lying: object, face_video: Path) -> None:
    lying("try: os.ftruncate(int(sys.argv[1]), 0)\n"  # type: ignore[operator]
          "except PermissionError: say({'error': ['no_frames', 'refused']})")  # fmt: skip
    with pytest.raises(UserError) as caught, open_clip(face_video, Settings()):
        pass
    assert caught.value.message == "refused"


@pytest.mark.parametrize("bytes_shared", [10, 3 * 2**24])
def test_pictures_are_the_same_through_the_pipe_and_through_shared_memory(
    fenced: DecoderPool, face_video: Path, monkeypatch: pytest.MonkeyPatch, bytes_shared: int
) -> None:
    """Pictures larger than a slot come through the pipe."""
    honest = ("-P", "-c", f"from detector import decoder; decoder.SLOT_BYTES = {bytes_shared}; "
              "decoder.main()")  # fmt: skip
    monkeypatch.setattr(module, "ARGUMENTS", honest)
    monkeypatch.setattr(module, "SLOT_BYTES", bytes_shared)
    expected = choose_frames(Clip(face_video, Settings(key_frames=3)), count=3)
    with open_clip(face_video, Settings(key_frames=3)) as seen:
        images = [key_frame.image for key_frame in seen.key_frames()]
    for image, other in zip(images, expected.key_frames(), strict=True):
        assert np.array_equal(image, other.image)


def test_requests_that_follow_a_failed_picture_do_not_disturb_the_next_clip(
    fenced: DecoderPool, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_once = ("-P", "-c", "from detector.decoder import Answers, UserError, main\n"
                  "put_picture = Answers.put_picture\n"
                  "def fail(*arguments):\n"
                  "    Answers.put_picture = put_picture\n"
                  "    raise UserError('unreadable_video', 'damaged')\n"
                  "Answers.put_picture = fail\n"
                  "main()")  # fmt: skip
    monkeypatch.setattr(module, "ARGUMENTS", fails_once)

    def look() -> int:
        with open_clip(face_video, Settings(key_frames=4)) as seen:
            return len(list(seen.key_frames()))

    with pytest.raises(UserError, match="damaged"):
        look()
    assert look() == 4
    assert fenced._idle[0].clips == 2


def test_a_hang_ends_at_the_limit(
    lying: object, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.5)
    lying("time.sleep(60)")  # type: ignore[operator]
    began = time.monotonic()
    with pytest.raises(UserError) as caught, open_clip(face_video, Settings(max_decode_time=0.5)):
        pass
    assert caught.value.code == "decode_timeout"
    assert time.monotonic() - began < 20


def test_cancelling_ends_a_hang_within_a_second(lying: object, face_video: Path) -> None:
    lying("time.sleep(60)")  # type: ignore[operator]
    began = time.monotonic()
    asked: list[float] = []

    def cancel(stage: str, fraction: float) -> None:
        if time.monotonic() - began > 1:
            asked.append(time.monotonic())
            raise UserError("cancelled", "Cancelled.")

    with pytest.raises(UserError) as caught, open_clip(face_video, Settings(), cancel):
        pass
    assert caught.value.code == "cancelled"
    assert time.monotonic() - asked[0] < 1


def test_an_error_of_whoever_looks_is_not_the_files(fenced: DecoderPool, face_video: Path) -> None:
    with pytest.raises(KeyError), open_clip(face_video, Settings()):
        raise KeyError("mine")
    with open_clip(face_video, Settings(key_frames=2)) as seen:
        assert len(list(seen.thumbnails())) == 2


def test_a_decoders_traceback_is_logged_and_not_told(
    lying: object, face_video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lying("say({'failed': 'Traceback: the secret'})")  # type: ignore[operator]
    with pytest.raises(UserError) as caught, open_clip(face_video, Settings()):
        pass
    assert caught.value.code == "internal"
    assert "secret" not in caught.value.message
    assert "secret" in caplog.text
    caplog.clear()


def test_waiting_for_a_decoder_can_be_cancelled(fenced: DecoderPool, face_video: Path) -> None:
    def cancel(stage: str, fraction: float) -> None:
        raise UserError("cancelled", "Cancelled.")

    with open_clip(face_video, Settings()), pytest.raises(UserError) as caught:  # noqa: SIM117
        with open_clip(face_video, Settings(), cancel):
            pass
    assert caught.value.code == "cancelled"


def test_a_decoder_ends_with_whoever_started_it(face_video: Path) -> None:
    code = (
        "from detector.fence import open_clip\nfrom detector.settings import Settings\n"
        f"with open_clip({str(face_video)!r}, Settings()) as seen:\n"
        "    print(seen.decoder._process.pid, flush=True)\n    import time; time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        decoder = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    for _ in range(100):
        time.sleep(0.1)
        try:
            os.kill(decoder, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{decoder}/stat").exists():
            state = Path(f"/proc/{decoder}/stat").read_text(encoding="utf-8").split(")")[1].split()
            if state[0] == "Z":
                return
    pytest.fail("the decoder lives on")


@pytest.mark.parametrize("how", ["file", "standard input"])
def test_a_script_without_a_guard_runs_once(face_video: Path, tmp_path: Path, how: str) -> None:
    code = (
        "from detector.fence import open_clip\nfrom detector.settings import Settings\n"
        "print('once', flush=True)\n"
        f"with open_clip({str(face_video)!r}, Settings(key_frames=2)) as seen:\n"
        "    print(len(list(seen.key_frames())))\n"
    )
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py" if how == "file" else "-"],
        input=code, cwd=tmp_path, text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "once\n2\n"), done.stderr


def test_what_lies_beside_the_clips_is_not_run(
    fenced: DecoderPool, face_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("av.py", "json.py", "detector.py"):
        (tmp_path / name).write_text("raise SystemExit('not the library')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with open_clip(face_video, Settings(key_frames=2)) as seen:
        assert len(list(seen.key_frames())) == 2


def in_sandbox(code: str, *, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    allow = f"sandbox.allow_seconds({seconds})" if seconds else ""
    return subprocess.run(
        [sys.executable, "-c", f"from detector import sandbox; sandbox.enter(); {allow}\n{code}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@linux
@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        ("import socket; socket.socket()", "PermissionError"),
        ("import socket; socket.socket(socket.AF_UNIX)", "PermissionError"),
        ("import os; os.execv('/bin/true', ['true'])", "PermissionError"),
        ("import subprocess; subprocess.run(['/bin/true'])", "PermissionError"),
        ("import os; os.kill(os.getppid(), 0)", "PermissionError"),
        ("open('{folder}/file', 'wb', 0).write(b'x')", "File too large"),
        ("bytearray(6 * 2**30)", "MemoryError"),
        ("held = [open('/dev/null') for _ in range(100)]", "Too many open files"),
    ],
    ids=["socket", "local socket", "exec", "program", "kill", "write", "memory", "files"],
)
def test_what_decoding_does_not_need_is_forbidden(tmp_path: Path, code: str, refusal: str) -> None:
    done = in_sandbox(code.format(folder=tmp_path))
    assert done.returncode == 1
    assert refusal in done.stderr


@linux
@pytest.mark.parametrize(
    "code",
    ["open('{folder}/secret')", "os.listdir('{folder}')",
     "os.rename('{folder}/secret', '{folder}/x')", "os.unlink('{folder}/secret')",
     "os.symlink('{folder}/secret', '{folder}/y')"],
)  # fmt: skip
def test_once_loaded_no_file_is_opened_or_changed(tmp_path: Path, code: str) -> None:
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    code = code.format(folder=tmp_path)
    assert in_sandbox(f"import os\n{code}").returncode == 0
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    done = in_sandbox(f"import os; assert sandbox.forbid_opening()\n{code}")
    assert "PermissionError" in done.stderr
    assert (tmp_path / "secret").is_file()


@linux
def test_a_decoder_reads_the_file_it_was_given_and_no_other(
    fenced: DecoderPool, face_video: Path, tmp_path: Path
) -> None:
    """By its path alone a decoder cannot read even the clip it is asked about."""
    with open_clip(face_video, Settings(key_frames=2)) as seen:
        assert len(list(seen.key_frames())) == 2
    (decoder,) = fenced._idle
    decoder.send({"path": str(face_video), "settings": vars(Settings())})
    told: list[object] = []
    while not told or "progress" in told[-1]:  # type: ignore[operator]
        answer = decoder.receive()
        told += [answer[0]] if answer else []
    assert told[-1]["error"][0] == "unreadable_video"  # type: ignore[index]


@pytest.mark.skipif(os.name != "posix", reason="where files can be handed over")
def test_a_file_is_that_which_was_opened_whatever_its_name_becomes(
    fenced: DecoderPool, face_video: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(face_video.read_bytes())
    other = write_clip(tmp_path / "other.mp4", [texture(1, 160, 120)] * 3)
    with open_clip(path, Settings(key_frames=2)) as seen:
        os.replace(other, path)
        assert seen.provenance().sha256 == hash_file(face_video)


@linux
def test_time_is_limited() -> None:
    assert in_sandbox("while True: pass", seconds=0.2).returncode == module.CPU_LIMIT_CODE


@linux
def test_a_decoder_sees_no_secret(
    fenced: DecoderPool, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with open_clip(face_video, Settings()) as seen:
        own = Path(f"/proc/{seen.decoder._process.pid}/environ").read_bytes()
        status = Path(f"/proc/{seen.decoder._process.pid}/status").read_text(encoding="utf-8")
    assert b"PATH" in own
    assert b"hf_secret" not in own
    if os.uname().machine in ("x86_64", "aarch64"):
        assert "Seccomp:\t2" in status


def test_many_at_once_each_get_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = DecoderPool(2)
    monkeypatch.setattr(module, "decoder_pool", lambda: own)
    paths = [write_clip(tmp_path / f"{n}.mp4", [texture(n, 160, 120)] * (n + 3)) for n in range(6)]
    found: dict[int, tuple[int | None, str]] = {}

    def visit(number: int) -> None:
        with open_clip(paths[number], Settings()) as seen:
            list(seen.key_frames())
            found[number] = seen.video.frames, seen.provenance().sha256

    visitors = [threading.Thread(target=visit, args=(n,)) for n in range(6)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    own.close()
    assert found == {n: (n + 3, hash_file(path)) for n, path in enumerate(paths)}


def test_a_long_clip_is_left_early_without_harm(fenced: DecoderPool, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", face_clip(30))
    with open_clip(path, Settings(key_frames=8)) as seen:
        next(seen.key_frames())
    with open_clip(path, Settings(key_frames=8)) as seen:
        assert len(list(seen.key_frames())) == 8


def test_clips_that_are_evaluated_are_decoded_behind_the_fence(
    detector: Detector, face_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detector.training.labelled import LabelledClip, score_clips

    for name in ("Clip", "read_image"):
        monkeypatch.setattr(f"detector.video.{name}", lambda *_: pytest.fail("opened here"))
    clip = LabelledClip(face_video, False, "real", "own", "", "")
    scores, failed = score_clips([clip], detector, Settings(key_frames=4))
    assert len(scores) == 1
    assert failed == []
