"""The app in a real browser, and its API."""

import json
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
import pytest
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
PATIENCE = 90_000  # milliseconds
browser_test = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0")


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
        page = browser.new_page(viewport={"width": 1280, "height": 900})
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
        page.wait_for_selector("#check")
        yield page
        browser.close()
    assert foreign == []


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#clip input[type=file]", str(path))
    page.wait_for_selector("#clip video")


def check(page: Page, path: Path) -> None:
    upload(page, path)
    page.click("#check")
    page.wait_for_selector("#verdict .label")


@browser_test
def test_from_upload_to_report(page: Page, tmp_path: Path) -> None:
    check(page, EXAMPLES / "manipulated.mp4")
    expect(page.locator("#verdict")).to_contain_text("Probability of manipulation")
    page.wait_for_selector(".timeline .point")
    expect(page.locator("#words")).to_contain_text("Grad-CAM", timeout=PATIENCE)

    point = page.locator(".timeline .point").nth(7)
    index = point.get_attribute("data-frame")
    point.click()
    page.wait_for_selector(f'.timeline .point[aria-current="true"][data-frame="{index}"]')
    page.wait_for_function("document.querySelector('#clip video').currentTime > 0.1")

    page.click("#method label:has-text('SmoothGrad')")
    expect(page.locator("#words")).to_contain_text("SmoothGrad", timeout=PATIENCE)

    with page.expect_download() as download:
        page.locator("#files a", has_text="KB").first.click()
    path = tmp_path / "report.json"
    download.value.save_as(path)
    report = json.loads(path.read_text(encoding="utf-8"))
    assert report["file"] == "manipulated.mp4"
    assert len(report["people"]) == 1


@browser_test
def test_point_is_reached_by_keyboard(page: Page) -> None:
    check(page, EXAMPLES / "two_people.mp4")
    expect(page.locator("#verdict .person")).to_have_count(2)
    page.wait_for_selector(".timeline .point")
    expect(page.locator("#words")).to_contain_text("Grad-CAM", timeout=PATIENCE)
    page.locator(".timeline .point").nth(2).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    chosen = page.locator(".timeline .point").nth(3)
    expect(chosen).to_have_attribute("aria-current", "true")
    expect(chosen).to_be_focused()
    page.wait_for_function(
        "time => Math.abs(document.querySelector('#clip video').currentTime - time) < 0.05",
        arg=float(chosen.get_attribute("aria-label").split(" at ")[1].split(" s")[0]),
    )


@browser_test
def test_no_face(page: Page) -> None:
    check(page, EXAMPLES / "no_face.mp4")
    expect(page.locator("#verdict .label")).to_contain_text("No face found")


@browser_test
def test_broken_file_is_told_in_words(page: Page, tmp_path: Path) -> None:
    whole = (EXAMPLES / "genuine.mp4").read_bytes()
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole[: len(whole) // 3])
    upload(page, broken)
    page.click("#check")
    expect(page.locator("#verdict .error")).to_contain_text("no video that can be decoded")


@browser_test
def test_cancel_stops_the_check(page: Page) -> None:
    upload(page, EXAMPLES / "genuine.mp4")
    page.click("#check")
    page.wait_for_selector("#verdict .card:has-text('key frames')")
    page.click("#cancel")
    expect(page.locator("#verdict")).to_contain_text("ancelled")
    page.wait_for_timeout(3000)
    expect(page.locator("#verdict")).to_contain_text("ancelled")


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
    wrong = client.predict(
        handle_file(str(EXAMPLES / "genuine.mp4")), "nobody", 8, api_name="/scan"
    )
    assert wrong["error"]["code"] == "unknown_model"


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


def test_models_without_weights_cannot_be_chosen() -> None:
    titles = {name: title for title, name in detectors.list_models()}
    assert titles["efficientnet_lite0"].endswith("(embedded)")
    assert titles["efficientnet_lite2"].endswith("(embedded)")
    assert "xception" not in titles
    assert "<li aria-disabled" in detectors.list_missing()
    assert "Xception" in detectors.list_missing()


def test_it_stops_quietly_amid_a_map() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = subprocess.Popen(
        [sys.executable, "app.py", "--no-browser", "--port", str(port)],
        cwd=EXAMPLES.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert app.stdout is not None
        assert any("Running on local URL" in line for line in app.stdout)
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        asked = handle_file(str(EXAMPLES / "genuine.mp4")), "smoothgrad", 1.0, "default"
        client.predict(*asked, api_name="/explain")
        client.submit(*asked, api_name="/explain")
        time.sleep(1.5)
        app.send_signal(signal.SIGINT)
        rest = app.communicate(timeout=60)[0]
    finally:
        app.kill()
    assert app.returncode == 0, rest
    assert "terminate" not in rest


@browser_test
def test_a_narrow_page_does_not_scroll_sideways(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    check(page, EXAMPLES / "genuine.mp4")
    page.wait_for_selector(".timeline .point")
    expect(page.locator("#words")).to_contain_text("Grad-CAM", timeout=PATIENCE)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_every_language_says_everything() -> None:
    english = texts.LABELS["en"]
    assert {"de", "es", "fr"} < set(texts.LABELS)
    for said in texts.LABELS.values():
        assert said.keys() == english.keys()
        for key, value in said.items():
            assert value.startswith("## ") == english[key].startswith("## ")


@browser_test
def test_labels_follow_the_browsers_language(address: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(locale="de-DE")
        page.goto(address)
        page.get_by_role("button", name="Prüfen", exact=True).wait_for(timeout=PATIENCE)
        expect(page.locator("body")).to_contain_text(texts.LABELS["de"]["tagline"])
        browser.close()


def test_nothing_was_sent_anywhere(outgoing: list[object]) -> None:
    """Last in this file: it looks back on all the others."""
    assert outgoing == []
