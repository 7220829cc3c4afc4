"""Every state of the page, light and dark, wide and narrow, in two languages: can all read it?"""

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from test_page import make_scan

from detector import interface
from detector.cards import Answer
from detector.interface import checks
from detector.interface.detectors import DETECTORS
from detector.page import full_json, to_page
from detector.scoring import Detector

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE_PACKAGE = importlib.util.find_spec("axe_playwright_python")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
PAPER = {"A4": (210, 297), "Letter": (216, 279)}
MARGIN = 14  # millimetres of the page's margin, as page.css has it
KEPT = os.environ.get("UNMASK_PICTURES")  # a folder for pictures of the states, to look at
PIXELS = 96 / 25.4  # a millimetre


def load_pictures() -> ModuleType:
    """docs/make_pictures.py, which knows the states."""
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pictures = load_pictures()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=pictures.FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app with a tiny network, and nothing known beforehand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setitem(DETECTORS._loaded, "default", detector)
        patch.setitem(DETECTORS._loaded, "efficientnet_lite2", detector)
        patch.setattr(checks, "ANSWERS", ROOT / "none.json")
        blocks = interface.launch(open_browser=False, block=False)
        yield blocks.local_url
        blocks.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong."""
    assert AXE_PACKAGE is not None
    assert AXE_PACKAGE.submodule_search_locations is not None
    script = Path(AXE_PACKAGE.submodule_search_locations[0]) / "axe.min.js"
    page.evaluate(script.read_text(encoding="utf-8"))
    found: Any = page.evaluate("axe.run().then(result => result.violations)")
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("view", ["1280", "360 dark french"])
def test_every_state_is_accessible(browser: Browser, address: str, view: str) -> None:
    page = browser.new_page(**pictures.VIEWS[view])
    wrong, states = [], []
    for state in pictures.walk(page, address, 4):
        states.append(state)
        if KEPT:
            page.screenshot(path=Path(KEPT) / f"{view} {state}.png", full_page=True)
        wrong += [f"{state}: {told}" for told in violations(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{state}: scrolls sideways")
    page.close()
    assert len(states) >= 12
    assert wrong == []


@pytest.mark.parametrize("paper", PAPER)
def test_no_figure_of_a_printed_report_is_cut(browser: Browser, paper: str, tmp_path: Path) -> None:
    found = make_scan(people=8, frames=32)
    report = full_json(Answer(found, "a.mp4"), language="en", file="a report.json")
    path = tmp_path / "report.html"
    path.write_text(to_page(found, report, {}), encoding="utf-8")
    width, height = (round((side - 2 * MARGIN) * PIXELS) for side in PAPER[paper])
    page = browser.new_page(viewport={"width": width, "height": height})
    page.emulate_media(media="print")
    page.goto(path.as_uri())
    # Whatever may not be broken must fit on a sheet, and nothing may stand out beyond its edge.
    loose = page.evaluate(
        """height => [...document.querySelectorAll('img, svg, .lanes, .plate, .card, tr')]
          .filter(e => {
            const box = e.getBoundingClientRect();
            let up = e;
            while (up && getComputedStyle(up).breakInside !== 'avoid') up = up.parentElement;
            return !up || up.getBoundingClientRect().height > height;
          }).map(e => e.outerHTML.slice(0, 80))""",
        height,
    )
    assert loose == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
    assert page.pdf(format=paper, prefer_css_page_size=False).startswith(b"%PDF")
    page.close()
