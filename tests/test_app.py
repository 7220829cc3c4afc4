"""The app in a real browser, and its API."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import PIL.Image
import pytest
from clips import portrait
from gradio_client import Client, handle_file
from playwright.sync_api import Page, expect, sync_playwright

from detector import interface, texts
from detector.interface import detectors
from detector.provenance import hash_file

EXAMPLES = Path(__file__).parent.parent / "examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 240_000  # milliseconds
expect.set_options(timeout=PATIENCE)
browser_test = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
REQUIRED = bool(os.environ.get("UNMASK_REQUIRE_BROWSER"))  # set by .ci/run
LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0")


@pytest.mark.skipif(not REQUIRED, reason="only CI must run the browser tests")
def test_a_browser_is_installed() -> None:
    assert CHROMIUM is not None, "the browser tests would be skipped"


@pytest.fixture(scope="module")
def outgoing() -> Iterator[list[object]]:
    """Every connection that anything in this process tries to open to elsewhere."""
    tried: list[object] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            tried.append(address)
            raise OSError("the cable is out")
        connect(self, address)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watched)
        yield tried


@pytest.fixture(scope="module")
def address(outgoing: list[object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The running app."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        blocks = interface.launch(open_browser=False, block=False)
        yield blocks.local_url
        blocks.close()


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """A fresh visitor; what the page loads from elsewhere fails the test."""
    foreign = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE)
        page.on(
            "request",
            lambda r: (
                None
                if r.url.startswith((address, "data:", "blob:", "about:"))
                else foreign.append(r.url)
            ),
        )
        page.goto(address)
        page.wait_for_selector(".lt-choose")
        yield page
        browser.close()
    assert foreign == []


def drop(page: Page, *paths: Path) -> None:
    page.set_input_files(".lt-input", [str(p) for p in paths])


def check(page: Page, *paths: Path) -> None:
    drop(page, *paths)
    page.wait_for_selector(".lt[data-state=done]")


@browser_test
def test_from_drop_to_report(page: Page, tmp_path: Path) -> None:
    check(page, EXAMPLES / "manipulated.mp4")
    card = page.locator(".lt-card")
    expect(card).to_contain_text("manipulated.mp4")
    expect(card).to_contain_text("Probability of manipulation")
    expect(card).to_contain_text("What to do next")
    assert page.locator(".lt-chart").evaluate("e => e.getBoundingClientRect().bottom") <= 800
    assert card.evaluate("e => e.getBoundingClientRect().bottom") <= 800
    expect(page.locator("#faces .plate")).to_have_count(3, timeout=PATIENCE)
    expect(card).not_to_contain_text("Being put")
    page.get_by_role("tab", name="Does it hold?").click()
    expect(page.locator("#holds tbody tr")).to_have_count(6)

    page.get_by_role("tab", name="Report").click()
    with page.expect_download(timeout=2 * PATIENCE) as download:
        page.locator("#files a", has_text="KB").nth(1).click(timeout=2 * PATIENCE)
    path = tmp_path / "report.json"
    download.value.save_as(path)
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["file"] == "manipulated.mp4"
    assert len(report["people"]) == 1
    assert len(report["stress"]["trials"]) == 6


@browser_test
def test_the_time_line_seeks_and_the_boxes_follow(page: Page) -> None:
    check(page, EXAMPLES / "two_people.mp4")
    expect(page.locator(".lane[data-person]")).to_have_count(2)
    scrub = page.locator(".lt-scrub")
    area = scrub.bounding_box()
    scrub.click(position={"x": area["width"] / 2, "y": 4})
    page.wait_for_function("Math.abs(document.querySelector('.lt-video').currentTime - 2.5) < 0.2")
    expect(page.locator(".lt-boxes g")).to_have_count(2)
    before = float(scrub.get_attribute("aria-valuenow"))
    scrub.focus()
    page.keyboard.press("ArrowRight")
    after = float(scrub.get_attribute("aria-valuenow"))
    assert 0 < after - before < 1
    page.wait_for_function(
        "time => Math.abs(document.querySelector('.lt-video').currentTime - time) < 0.05", arg=after
    )
    assert "Person 1: " in scrub.get_attribute("aria-valuetext")
    chosen = page.locator("#faces .plate header").first
    seen = []
    for _ in range(2):
        page.keyboard.press("Enter")
        expect(chosen).to_contain_text(f" at {after:.2f} s")
        expect(chosen).not_to_contain_text(seen[0] if seen else "nobody")
        seen.append(chosen.inner_text().partition(" at ")[0])
    assert sorted(seen) == ["Person 1", "Person 2"]
    page.keyboard.press("End")
    assert scrub.get_attribute("aria-valuenow") == scrub.get_attribute("aria-valuemax")


STOP = """() => {
  const {outlineStyle, outlineWidth} = getComputedStyle(document.activeElement);
  return [document.activeElement.tagName, outlineStyle, outlineWidth];
}"""


@browser_test
def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.get_by_role("button", name="Settings").press("Enter")
    page.locator(".lt-choose").focus()
    stops = []
    while (stop := page.evaluate(STOP))[0] != "BODY":
        stops.append(stop)
        page.keyboard.press("Tab")
    assert len(stops) > 10
    assert {tuple(stop[1:]) for stop in stops} == {("solid", "3px")}, stops
    page.locator("[data-example=no_face]").press("Enter")
    page.wait_for_selector(".lt[data-state=done]")
    page.keyboard.press("Tab")
    expect(page.locator(".lt-play")).to_be_focused()
    page.get_by_role("tab", name="Faces").press("ArrowRight")
    expect(page.get_by_role("tab", name="Key frames")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("tab", name="Key frames")).to_be_focused()


@browser_test
def test_a_new_file_clears_all_of_the_old(page: Page) -> None:
    check(page, EXAMPLES / "two_people.mp4")
    drop(page, EXAMPLES / "no_face.mp4")
    expect(page.locator(".lane")).to_have_count(0)
    expect(page.locator(".lt-card")).not_to_contain_text("two_people")
    expect(page.locator("#evidence")).to_be_hidden()
    expect(page.locator(".lt-card .label")).to_contain_text("No face found")
    expect(page.locator(".lt-card")).to_contain_text("no_face.mp4")
    expect(page.locator("#faces")).not_to_contain_text("Person 1")


@browser_test
def test_an_example_amid_a_check_takes_its_place(page: Page) -> None:
    drop(page, EXAMPLES / "two_people.mp4")
    page.wait_for_selector(".lt-card .working")
    page.evaluate("document.querySelector('[data-example=no_face]').click()")
    expect(page.locator(".lt-card .label")).to_contain_text("No face found")
    page.wait_for_timeout(3000)
    expect(page.locator(".lt-card .file")).to_contain_text("no_face.mp4")


@browser_test
def test_a_picture_has_words_of_its_own(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "portrait.png"
    PIL.Image.fromarray(portrait()).save(path)
    check(page, path)
    expect(page.locator(".lt-card")).to_contain_text("from a single view")
    for wrong in ("clip would help", "1 faces", "most likely between", "frames"):
        expect(page.locator(".lt-card")).not_to_contain_text(wrong)
    expect(page.locator(".lanes.still .lane")).to_have_count(1)
    expect(page.locator(".lt-scrub")).to_be_hidden()


@browser_test
def test_several_files_make_a_table_whose_rows_open(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((EXAMPLES / "genuine.mp4").read_bytes()[:40_000])
    drop(page, EXAMPLES / "no_face.mp4", broken, EXAMPLES / "genuine.mp4")
    rows = page.locator(".lt-desk tbody tr")
    expect(rows).to_have_count(3)
    expect(page.locator(".lt-desk h2")).to_contain_text("3 of 3", timeout=2 * PATIENCE)
    expect(rows.nth(0)).to_contain_text("genuine.mp4")
    expect(rows.nth(2)).to_contain_text("could not be checked")
    rows.nth(1).locator("button").press("Enter")
    expect(page.locator(".lt-card .label")).to_contain_text("No face found")
    expect(rows.nth(1).locator("button")).to_be_focused()


@browser_test
def test_broken_file_is_told_in_words(page: Page, tmp_path: Path) -> None:
    whole = (EXAMPLES / "genuine.mp4").read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole[: len(whole) // 3])
    drop(page, broken)
    expect(page.locator(".lt-card .error")).to_contain_text("no video that can be decoded")


@browser_test
def test_cancel_acts_at_once(page: Page) -> None:
    drop(page, EXAMPLES / "genuine.mp4")
    page.wait_for_selector(".lt-card .working")
    page.click(".lt-cancel")
    expect(page.locator(".lt-card")).to_contain_text("Cancelled", timeout=1000)
    page.wait_for_timeout(3000)
    expect(page.locator(".lt-card")).to_contain_text("Cancelled")
    expect(page.locator("#evidence")).to_be_hidden()


def test_api_gives_the_command_lines_answer(address: str) -> None:
    client = Client(address, verbose=False)
    report = client.predict(
        handle_file(str(EXAMPLES / "genuine.mp4")), "default", 8, api_name="/scan"
    )
    assert report["schema"] == 1
    assert len(report["key_frames"]) == 8
    told = client.predict(
        handle_file(str(EXAMPLES / "genuine.mp4")), "gradcam", 1.0, "default",
        api_name="/explain",
    )  # fmt: skip
    assert told["time"] == pytest.approx(1.0, abs=0.5)
    assert "reliable" in told["trust"]


def test_every_bad_argument_is_answered_with_a_code(address: str) -> None:
    client, clip = Client(address, verbose=False), handle_file(str(EXAMPLES / "genuine.mp4"))
    for asked, code in (
        ((clip, "nobody", 8), "unknown_model"),
        ((None, "default", 8), "missing_file"),
        ((clip, "default", "abc"), "bad_setting"),
        ((clip, "default", 2.5), "bad_setting"),
        ((clip, "default", None), "bad_setting"),
        ((clip, None, 8), "bad_setting"),
        ((clip, "default", 0), "bad_setting"),
        ((clip, "default", 1e300), "bad_setting"),
        ((clip, "default", True), "bad_setting"),
        ((clip, 7, 8), "unknown_model"),
    ):
        assert client.predict(*asked, api_name="/scan")["error"]["code"] == code, asked
    for asked, code in (
        ((clip, "rays", 1.0, "default"), "unknown_method"),
        ((clip, "gradcam", "soon", "default"), "bad_setting"),
        ((None, "gradcam", 1.0, "default"), "missing_file"),
        ((clip, "gradcam", 99.0, "default"), "no_face_at_time"),
        ((clip, None, 1.0, "default"), "bad_setting"),
        ((clip, "gradcam", 1.0, "nobody"), "unknown_model"),
    ):
        assert client.predict(*asked, api_name="/explain")["error"]["code"] == code, asked


DOCUMENTED = re.findall(
    r"```(python|bash)\n(.*?)```",
    (EXAMPLES.parent / "docs" / "api.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize(("language", "code"), DOCUMENTED, ids=lambda part: part[:6])
def test_the_documented_calls_work(address: str, language: str, code: str) -> None:
    if language == "bash" and not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("bash and curl are needed")
    code = code.replace("http://127.0.0.1:7860", address.rstrip("/"))
    done = subprocess.run(
        [sys.executable if language == "python" else "bash", "-c", code],
        cwd=EXAMPLES.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stdout
    assert re.search(r"manipulated|no_signs|inconclusive|True|False", done.stdout), done.stdout


def test_eight_visitors_each_get_their_own_answer(address: str) -> None:
    names = ["genuine", "manipulated", "two_people", "no_face"] * 2

    def visit(name: str) -> tuple[dict, str]:
        path = EXAMPLES / f"{name}.mp4"
        client = Client(address, verbose=False)
        report = client.predict(handle_file(str(path)), "default", 4, api_name="/scan")
        return report, hash_file(path)

    with ThreadPoolExecutor(8) as pool:
        for report, digest in pool.map(visit, names):
            assert report["sha256"] == digest
            assert len(report["key_frames"]) == 4


def test_only_the_two_endpoints_are_offered(address: str) -> None:
    client = Client(address, verbose=False)
    offered = client.view_api(return_format="dict")["named_endpoints"]
    assert set(offered) == {"/scan", "/explain"}


def test_mcp_offers_the_two_tools(address: str) -> None:
    schema = httpx.get(f"{address.rstrip('/')}/gradio_api/mcp/schema").json()
    tools = {tool["name"]: tool["description"] for tool in schema}
    assert any(name.endswith("scan") for name in tools)
    assert any("signs of manipulation" in text for text in tools.values())
    assert len(tools) == 2


def test_no_address_is_fetched_in_place_of_a_file(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        place = f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"
        client = Client(address, verbose=False)
        told = client.predict(handle_file(place), "default", 4, api_name="/scan")
        with pytest.raises(TimeoutError):
            server.accept()
    assert told["error"]["code"] == "missing_file"
    assert "send the file itself" in told["error"]["message"]


def test_too_large_a_request_is_refused(address: str) -> None:
    host, port = httpx.URL(address).host, httpx.URL(address).port
    asking = http.client.HTTPConnection(host, port, timeout=60)
    asking.putrequest("POST", "/gradio_api/upload")
    asking.putheader("content-type", "multipart/form-data; boundary=x")
    asking.putheader("content-length", str(2**50))
    asking.endheaders()
    told = asking.getresponse()
    assert told.status == 413
    assert b"no space for more files" in told.read()
    asking.close()


def test_models_without_weights_cannot_be_chosen() -> None:
    titles = {name: title for title, name in detectors.list_models()}
    assert titles["efficientnet_lite2"].endswith("(embedded)")
    assert "xception" not in titles
    assert any("Xception" in title for title in detectors.list_missing())


def heed_interrupts() -> None:
    """Undo that a shell's background jobs ignore Ctrl-C, which the processes they start inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("presses", [1, 2])
def test_it_stops_quietly_amid_a_map(presses: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = subprocess.Popen(
        [sys.executable, "app.py", "--no-browser", "--port", str(port)],
        cwd=EXAMPLES.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    try:
        assert app.stdout is not None
        assert any("Running on local URL" in line for line in app.stdout)
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        asked = handle_file(str(EXAMPLES / "genuine.mp4")), "smoothgrad", 1.0, "default"
        client.predict(*asked, api_name="/explain")
        client.submit(*asked, api_name="/explain")
        time.sleep(1.5)
        began = time.monotonic()
        for _ in range(presses):
            app.send_signal(signal.SIGINT)
            time.sleep(0.3)
        rest = app.communicate(timeout=60)[0]
        assert time.monotonic() - began < 4  # the client's event stream stays open
    finally:
        app.kill()
    assert app.returncode in (0, 130), rest
    assert "terminate" not in rest
    assert "Traceback" not in rest


@browser_test
def test_a_narrow_page_does_not_scroll_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    page.get_by_role("button", name="Settings").first.click()
    check(page, EXAMPLES / "genuine.mp4")
    expect(page.locator("#faces .plate").first).to_be_visible(timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


@browser_test
def test_sentences_follow_the_browsers_language(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(locale="de-DE")
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.get_by_role("button", name="Dateien wählen", exact=True).wait_for()
        expect(page.locator("body")).to_contain_text(texts.translate("de", "tagline"))
        check(page, EXAMPLES / "no_face.mp4")
        expect(page.locator(".lt-card")).to_contain_text("Kein Gesicht gefunden")
        expect(page.locator(".lt-card")).to_contain_text("Was nun zu tun ist")
        browser.close()


def test_nothing_was_sent_anywhere(outgoing: list[object]) -> None:
    """Last in this file: it looks back on all the others."""
    assert outgoing == []
