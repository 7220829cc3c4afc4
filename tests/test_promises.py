"""Each promise in README, SECURITY.md and About, and the test that holds it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detector import texts
from detector.records import LABEL_TEXT

ROOT = Path(__file__).parent.parent
ABOUT = texts.translate("en", "about_text", figures="", minutes=60)
PAGES = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "SECURITY.md")]
TOLD = " ".join(" ".join([*PAGES, ABOUT]).split())

HERE = "test_promises.py::test_promise"
PROMISES = {
    "never calls a clip real": f"{HERE}_a_clip_is_never_called_real",
    "with the embedded detector, offline": f"{HERE}_it_works_with_the_cable_out",
    "it works with the cable out": f"{HERE}_it_works_with_the_cable_out",
    "Nothing is sent anywhere": "test_provenance.py::test_no_file_makes_unmask_call_home",
    "a test fails on any outgoing connection": "test_app.py::test_nothing_was_sent_anywhere",
    "and when the app ends, however it ends":
        "test_uploads.py::test_promise_uploads_are_deleted_and_nothing_else_is_left",
    "deleted after": f"{HERE}_uploads_are_deleted_after_an_hour",
    "run history and analytics are off": f"{HERE}_nothing_is_kept_or_counted",
    "on this machine alone": f"{HERE}_the_app_is_bound_to_this_machine",
    "A bad file never stops the rest": "test_main.py::test_jsonl_goes_on_after_a_bad_file",
    "Every command has `--help`": "test_main.py::test_every_command_explains_itself",
    "`verify` scans the clip again and compares every figure":
        "test_main.py::test_a_forged_figure_is_found",
    "and the page beside the JSON": "test_main.py::test_a_forged_page_is_found",
    "Files of one name in several folders are told apart":
        "test_archive.py::test_files_of_one_name_are_told_apart",
    "writes down what went wrong": "test_main.py::test_a_traceback_is_in_the_log_and_nowhere_else",
    "Exit code 0: every file was scanned": "test_main.py::test_wrong_usage_is_2",
    "cannot make a clip `manipulated`":
        "test_verdict.py::test_a_face_seen_once_neither_accuses_nor_lets_the_clip_be_cleared",
    "no fonts or scripts from elsewhere": "test_app.py::test_from_drop_to_report",
    "One that crashes, hangs or reaches a limit is ended; its clip gets":
        "test_fence.py::test_a_decoder_that_crashes_or_lies_costs_its_clip_alone",
    "or `decode_timeout`, and the next one another decoder":
        "test_fence.py::test_a_hang_ends_at_the_limit",
    "Cancelling ends it": "test_fence.py::test_cancelling_ends_a_hang_within_a_second",
    "filter also forbids sockets, starting programs, signals":
        "test_fence.py::test_what_decoding_does_not_need_is_forbidden",
    "The given file alone is read":
        "test_fence.py::test_a_decoder_reads_the_file_it_was_given_and_no_other",
    "then gives up opening files": "test_fence.py::test_once_loaded_no_file_is_opened_or_changed",
    "does not see tokens in the environment": "test_fence.py::test_a_decoder_sees_no_secret",
    "PostScript, for which it would start Ghostscript, is none of them":
        "test_video.py::test_a_file_that_names_others_is_refused",
    "references to other files are refused":
        "test_video.py::test_pictures_in_another_file_are_not_read",
    "number of frames are those of what was decoded":
        "test_video.py::test_a_duration_is_not_believed",
    "what was decoded in time is judged":
        "test_video.py::test_what_was_decoded_in_time_is_kept_and_told",
    "none takes all places": "test_turns.py::test_one_visitor_cannot_hold_all_places",
    "the queue is bounded": "test_turns.py::test_a_full_queue_says_so_in_words",
    "4 GiB or 100 files":
        "test_room.py::test_a_visitor_who_sends_very_many_files_is_bounded",
    "2 GiB of the disk stay free": "test_room.py::test_the_disk_is_never_filled",
    "what is remembered of all of them is 1 GiB":
        "test_sessions.py::test_the_longest_unseen_is_forgotten_when_memory_is_full",
    "in place of a file is not fetched":
        "test_app.py::test_no_address_is_fetched_in_place_of_a_file",
    "with a known hash, never pickle": "test_weights.py::test_convert_runs_no_code_from_a_pickle",
    "a helper process removes it after a kill":
        "test_uploads.py::test_uploads_are_gone_however_the_program_ends",
    "the next start after a power cut":
        "test_uploads.py::test_the_next_start_sweeps_what_the_dead_left_and_nothing_else",
    "Clips that `evaluate` scans are decoded behind it":
        "test_fence.py::test_clips_that_are_evaluated_are_decoded_behind_the_fence",
    "with hashes in `requirements-lock.txt`":
        f"{HERE.removesuffix('_promise')}_requirements_are_locked_with_hashes",
}  # fmt: skip
"""What is promised, and the test that fails when it is broken."""


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_has_its_test(promise: str) -> None:
    assert promise in TOLD, "no longer promised: remove it here, or say it again"
    file, _, name = PROMISES[promise].partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_promise_a_clip_is_never_called_real() -> None:
    called = re.compile(r"(?<!not a proof that )\b(is|was|looks) (real|authentic|genuine)\b", re.I)
    assert not [t for t in LABEL_TEXT.values() if re.search("real|authentic|genuine", t, re.I)]
    assert not [said["en"] for said in texts.sentences().values() if called.search(said["en"])]


def test_promise_it_works_with_the_cable_out(
    face_video: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """In a network of its own, without a route: native code has none either."""
    alone = ["unshare", "--map-root-user", "--net"]
    try:
        allowed = subprocess.run([*alone, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no network namespace may be made here")
    done = subprocess.run(
        [*alone, sys.executable, "-m", "detector", "scan", str(face_video), "--weights",
         str(checkpoint), "--key-frames", "2", "--report", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_promise_uploads_are_deleted_after_an_hour() -> None:
    from detector.interface import build_interface

    often, age = build_interface().delete_cache
    assert often <= age <= 3600


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the app is launched with on a desktop."""
    import gradio as gr

    from detector import interface

    given: dict[str, object] = {}
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr(gr.Blocks, "launch", lambda blocks, **k: given.update(k, blocks=blocks))
    interface.launch(open_browser=False, block=False)
    return given


def test_promise_nothing_is_kept_or_counted(launched: dict[str, object]) -> None:
    assert launched["run_history"] is False
    assert launched["blocks"].analytics_enabled is False  # type: ignore[attr-defined]


def test_promise_the_app_is_bound_to_this_machine(launched: dict[str, object]) -> None:
    assert launched["server_name"] == "127.0.0.1"
    assert not launched["share"]


def test_requirements_are_locked_with_hashes() -> None:
    """Every plain pin stands in the lock, and every package there has its hash."""
    lock = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", lock, re.M))
    assert len(locked) == lock.count("==") == lock.count("--hash=sha256:")
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").split():
        name, _, version = re.sub(r"\[.*\]", "", line).partition("==")
        found = {n.replace("_", "-"): v for n, v in locked.items()}
        assert found.get(name.lower()) == version, name
