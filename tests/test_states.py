"""Every state of the page in a browser, and the printed report, in French, which is long."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright
from scans import make_scan
from test_app import CHROMIUM, FLAGS, browser_test

from detector import interface, texts
from detector.cards import Answer
from detector.evidence import telling_faces
from detector.page import full_json, to_page
from detector.records import Heatmap, Label
from detector.stress import TRIALS, Trial
from docs.make_pictures import LANGUAGES, LOOKS, TABS, dress, walk

TRUST = {"agreement": 0.7, "stability": 0.9, "inside": 1.0, "reliable": None}
TESTED_LOOKS = "1280", "1280 dark", "360"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The running app."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        blocks = interface.launch(open_browser=False, block=False)
        yield blocks.local_url
        blocks.close()


@browser_test
def test_no_state_is_barred_to_anyone_or_cut_or_in_two_languages(address: str) -> None:
    wrong: list[str] = []
    seen = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(locale=LANGUAGES["french "])
        for state in walk(page, address):
            seen.append(state)
            for look in TESTED_LOOKS:
                dress(page, look)
                wrong += [f"{look}, {state}: {fault}" for fault in find_faults(page, look)]
            wrong += [f"{state}: {said}" for said in find_english(page)]
            if state in TABS and not find_panel(page).inner_text().strip():
                wrong.append(f"{state}: nothing is shown")
        browser.close()
    assert len(seen) == len(set(seen)) == 13
    assert not wrong, "\n".join(wrong)


def find_faults(page: Page, look: str) -> list[str]:
    found = [
        f"{rule['id']} at {node['target']}: {node['failureSummary']}"
        for rule in Axe().run(page).response["violations"]
        for node in rule["nodes"]
    ]
    width = page.evaluate("document.documentElement.scrollWidth")
    if width > LOOKS[look][0]:
        found.append(f"{width} pixels wide")
    return found


def find_english(page: Page) -> list[str]:
    """The English sentences on the page."""
    shown = page.locator("body").inner_text()
    return [
        said["en"]
        for said in texts.sentences().values()
        if len(said["en"]) > 12 and said["en"] != said["fr"] and said["en"] in shown
    ]


def find_panel(page: Page):
    return page.locator("#evidence [role=tabpanel]:visible").first


PAPERS = {"A4": (688, 1017), "Letter": (710, 950)}
"""What a sheet holds between its margins, in pixels."""
SHEETS = 5  # of a report of a clip of two people, maps included
TALL = """height => [...document.querySelectorAll('body *')]
  .filter(e => getComputedStyle(e).breakInside === 'avoid' && e.offsetHeight > height)
  .map(e => e.className || e.tagName)"""
CUTTABLE = """() => [...document.querySelectorAll('figure, tr, .card, .plate, .lanes, .note')]
  .filter(e => getComputedStyle(e).breakInside !== 'avoid').map(e => e.className || e.tagName)"""


@browser_test
@pytest.mark.parametrize("paper", PAPERS)
def test_a_printed_report_has_few_sheets_and_cuts_nothing(paper: str, tmp_path: Path) -> None:
    found = make_scan(people=2, frames=32)
    maps = {
        (face.frame_index, person.person.id): Heatmap(
            "gradcam", face, np.eye(64, dtype=np.float32), TRUST, {"nose": 1.0}, "pasted"
        )
        for person, face in telling_faces(found)
    }
    trials = tuple(Trial(name, 0.9, Label.MANIPULATED) for name in ("as it is", *TRIALS))
    answer = Answer(found, "a.mp4", trials, found.verdict)
    report = full_json(answer, language="fr", file="a.json", maps=maps, note="Vu à Lyon.")
    file = tmp_path / "a.html"
    file.write_text(to_page(found, report, maps), encoding="utf-8")
    width, height = PAPERS[paper]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(file.as_uri())
        page.emulate_media(media="print")
        assert page.evaluate(TALL, height) == []
        assert page.evaluate(CUTTABLE) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        printed = page.pdf(format=paper)
        browser.close()
    assert 1 < len(re.findall(rb"/Type\s*/Page\b", printed)) <= SHEETS
