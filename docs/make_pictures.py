"""Take the pictures of the app: README's two, an animation, or every state in every view.

    PYTHONPATH=. python docs/make_pictures.py                  # docs/answer.png, docs/faces.png
    PYTHONPATH=. python docs/make_pictures.py --film           # docs/app.gif, 20 seconds
    PYTHONPATH=. python docs/make_pictures.py --all FOLDER     # every state, to be looked at

It needs Chromium and playwright (requirements-test.txt).
"""

import argparse
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
from playwright.sync_api import Page, sync_playwright

from detector.uploads import private_folder

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
PATIENCE = 600_000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
VIEWS: dict[str, dict[str, Any]] = {
    "1280": {"viewport": {"width": 1280, "height": 800}},
    "1280 dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark"},
    "1280 french": {"viewport": {"width": 1280, "height": 800}, "locale": "fr-FR"},
    "1920": {"viewport": {"width": 1920, "height": 1080}},
    "360": {"viewport": {"width": 360, "height": 800}},
    "360 dark french": {
        "viewport": {"width": 360, "height": 800}, "color_scheme": "dark", "locale": "fr-FR",
    },
}  # fmt: skip
TESTED = "document.querySelectorAll('#faces .plate details').length == 3"
FILM_SIZE = 720, 450  # pixels
FILM_STEP = 400  # milliseconds a picture
FILM_COLOURS = 64
TABS = ("faces", "keyframes", "origin", "holds", "compared", "files")
"""What each tab of the evidence shows, in their order."""


def visit(page: Page, address: str) -> None:
    """Open the app, as dark as the browser asks for."""
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.set_default_timeout(PATIENCE)
    page.goto(f"{address}?__theme={'dark' if dark else 'light'}")
    page.wait_for_selector(".lt-choose")
    page.wait_for_timeout(500)


def check(page: Page, *files: Path) -> None:
    """Drop files, and wait for all that follows the verdict."""
    page.set_input_files(".lt-input", [str(file) for file in files])
    page.wait_for_selector(".lt[data-state=done], .lt[data-state=error]")
    if page.locator(".lt[data-state=done] .lane").count():
        page.wait_for_selector("#faces .plate details", state="attached")


def walk(page: Page, address: str, key_frames: int = 32) -> Iterator[str]:
    """Take the page through its states, and name each."""
    visit(page, address)
    yield "empty"
    page.locator("button.label-wrap").first.click()
    page.wait_for_timeout(300)
    page.locator("#frames input[type=number]").fill(str(key_frames))
    page.keyboard.press("Tab")
    yield "settings"
    page.locator("button.label-wrap").first.click()
    page.set_input_files(".lt-input", str(EXAMPLES / "genuine.mp4"))
    page.wait_for_selector(".lt-card .working")
    yield "working"
    page.set_input_files(".lt-input", str(EXAMPLES / "genuine.mp4"))
    page.click(".lt-cancel")
    yield "cancelled"
    check(page, EXAMPLES / "two_people.mp4")
    tabs = page.locator("#evidence [role=tab]:visible")
    for number, shown in enumerate(TABS[: tabs.count()]):
        tabs.nth(number).click()
        if shown == "compared":
            page.set_input_files("#second input", str(EXAMPLES / "genuine.mp4"))
            page.wait_for_selector("#compared .lanes")
        page.wait_for_timeout(300)
        yield shown
    with tempfile.TemporaryDirectory() as folder:
        picture, broken = Path(folder) / "picture.png", Path(folder) / "broken.mp4"
        PIL.Image.effect_noise((320, 240), 60).save(picture)
        broken.write_bytes((EXAMPLES / "genuine.mp4").read_bytes()[:20_000])
        check(page, picture)
        yield "picture"
        page.set_input_files(".lt-input", str(broken))
        page.wait_for_selector(".lt[data-state=error]")
        yield "error"
        check(page, EXAMPLES / "no_face.mp4", EXAMPLES / "genuine.mp4", broken)
        page.wait_for_selector(".lt[data-state=done]")
        yield "several"


def take_two(page: Page, address: str, example: str) -> None:
    """README's pictures: an example's answer, and the faces that it rests on."""
    visit(page, address)
    check(page, EXAMPLES / f"{example}.mp4")
    page.wait_for_function(TESTED)
    page.focus(".lt-scrub")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1000)
    page.screenshot(path=HERE / "answer.png")
    page.locator("#evidence").screenshot(path=HERE / "faces.png")


def film(page: Page, address: str, example: str) -> None:
    """Animate a check of 20 seconds: drop an example, play it, show faces and stress test."""
    shots: list[PIL.Image.Image] = []

    def shoot(count: int) -> None:
        for _ in range(count):
            shot = PIL.Image.open(io.BytesIO(page.screenshot()))
            small = shot.convert("RGB").resize(FILM_SIZE, PIL.Image.Resampling.LANCZOS)
            shots.append(small.quantize(FILM_COLOURS, dither=PIL.Image.Dither.NONE))
            page.wait_for_timeout(FILM_STEP / 2)

    visit(page, address)
    shoot(4)
    page.set_input_files(".lt-input", str(EXAMPLES / f"{example}.mp4"))
    shoot(8)
    page.wait_for_selector(".lt[data-state=done]")
    shoot(3)
    page.click(".lt-play")
    shoot(11)
    page.wait_for_selector("#faces .plate details", state="attached")
    tabs = page.locator("#evidence [role=tab]:visible")
    for shown in ("faces", "keyframes", "origin", "holds"):
        tabs.nth(TABS.index(shown)).click()
        page.locator("#evidence").scroll_into_view_if_needed()
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(500)
        shoot(6)
    page.wait_for_function(TESTED)  # do not stop the app amid its work
    shots[0].save(
        HERE / "app.gif", save_all=True, append_images=shots[1:], duration=FILM_STEP, loop=0
    )


def main() -> None:
    """Serve the app, visit it, and take the pictures."""
    parser = argparse.ArgumentParser(description="Take pictures of the app")
    parser.add_argument("example", nargs="?", default="manipulated")
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="every state in every view")
    parser.add_argument("--film", action="store_true", help="docs/app.gif alone")
    options = parser.parse_args()
    with private_folder(), sync_playwright() as playwright:
        from detector.interface import launch

        blocks = launch(open_browser=False, block=False)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        if options.film:
            film(browser.new_page(**VIEWS["1280"]), str(blocks.local_url), options.example)
        elif options.all is None:
            page = browser.new_page(**VIEWS["1280"])
            take_two(page, str(blocks.local_url), options.example)
        else:
            options.all.mkdir(parents=True, exist_ok=True)
            for view, wanted in VIEWS.items():
                page = browser.new_page(**wanted)
                for state in walk(page, str(blocks.local_url)):
                    page.screenshot(path=options.all / f"{view} {state}.png", full_page=True)
                page.close()
        browser.close()
        blocks.close()


if __name__ == "__main__":
    main()
