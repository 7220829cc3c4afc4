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

import PIL.Image
from playwright.sync_api import Page, sync_playwright

from detector.settings import Settings
from detector.uploads import private_folder

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
PATIENCE = 600_000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
LOOKS = {
    "1280": (1280, 800, "light"),
    "1280 dark": (1280, 800, "dark"),
    "1920": (1920, 1080, "light"),
    "360": (360, 800, "light"),
    "360 dark": (360, 800, "dark"),
}
"""Name of a look -> width and height of the window, theme."""
LANGUAGES = {"": "en-US", "french ": "fr-FR"}
TESTED = "document.querySelectorAll('#faces .plate details').length == 3"
FILM_SIZE = 720, 450  # pixels
FILM_STEP = 400  # milliseconds a picture
FILM_COLOURS = 64
LONG, SHORT = 128, 4  # key frames of a check that takes long, and of one that does not
TABS = ("faces", "keyframes", "origin", "holds", "compared", "files")
"""What each tab of the evidence shows, in their order."""


def visit(page: Page, address: str) -> None:
    """Open the app in the first look."""
    page.set_default_timeout(PATIENCE)
    dress(page, "1280")
    page.goto(f"{address}?__theme=light")
    page.wait_for_selector(".lt-choose")
    page.wait_for_timeout(500)


def dress(page: Page, look: str) -> None:
    """Give the window a look's size and theme."""
    width, height, theme = LOOKS[look]
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("dark => document.body?.classList.toggle('dark', dark)", theme == "dark")
    page.wait_for_timeout(300)


def check(page: Page, *files: Path) -> None:
    """Drop files, and wait for all that follows the verdict."""
    page.set_input_files(".lt-input", [str(file) for file in files])
    wait_for_evidence(page)


def wait_for_evidence(page: Page) -> None:
    """Wait for the verdict and, if faces were judged, for the first map's figures."""
    page.wait_for_selector(".lt[data-state=done], .lt[data-state=error]")
    if page.locator(".lt[data-state=done] .lane").count():
        page.wait_for_selector("#faces .plate details", state="attached")


def set_key_frames(page: Page, count: int) -> None:
    """Set how many key frames are looked at."""
    page.locator("#frames input[type=number]").fill(str(count))
    page.keyboard.press("Tab")


def walk(page: Page, address: str) -> Iterator[str]:
    """Take the page through its states, and name each.

    Between two states the caller may change the look.
    """
    for state in _walk(page, address):
        yield state
        dress(page, "1280")


def _walk(page: Page, address: str) -> Iterator[str]:
    visit(page, address)
    yield "empty"
    settings = page.locator("button.label-wrap").first
    settings.click()
    page.wait_for_timeout(300)
    set_key_frames(page, LONG)
    yield "settings"
    page.set_input_files(".lt-input", str(EXAMPLES / "genuine.mp4"))
    page.wait_for_selector(".lt-card .working")
    yield "working"
    page.click(".lt-cancel")
    yield "cancelled"
    set_key_frames(page, Settings().key_frames)
    settings.click()
    page.evaluate("document.querySelector('[data-example=two_people]').click()")
    wait_for_evidence(page)
    for number, shown in enumerate(TABS):
        page.locator("#evidence [role=tab]:visible").nth(number).click()
        if shown == "compared":
            page.set_input_files("#second input", str(EXAMPLES / "genuine.mp4"))
            page.wait_for_selector("#compared .lanes")
        page.wait_for_timeout(300)
        yield shown
    settings.click()
    set_key_frames(page, SHORT)
    settings.click()
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
        page.wait_for_selector(".lt-desk tbody tr:nth-child(3) td:nth-child(3):has-text('✕')")
        yield "several"
    page.wait_for_selector("#files a", state="attached")  # do not stop the app amid its work


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
            film(browser.new_page(), str(blocks.local_url), options.example)
        elif options.all is None:
            take_two(browser.new_page(), str(blocks.local_url), options.example)
        else:
            options.all.mkdir(parents=True, exist_ok=True)
            for language, locale in LANGUAGES.items():
                page = browser.new_page(locale=locale)
                for state in walk(page, str(blocks.local_url)):
                    for look in LOOKS:
                        dress(page, look)
                        path = options.all / f"{look} {language}{state}.png"
                        page.screenshot(path=path, full_page=True)
                page.close()
        browser.close()
        blocks.close()


if __name__ == "__main__":
    main()
