"""Makes the pictures of the app that the README shows, in a real browser.

PYTHONPATH=. python docs/make_pictures.py
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from detector.uploads import private_folder

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
PATIENCE = 600_000  # milliseconds
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def show(page: Page, address: str, example: str) -> None:
    """An example's answer, all of it."""
    page.goto(address)
    page.set_input_files(".lt-input", str(EXAMPLES / f"{example}.mp4"))
    page.wait_for_selector(".lt[data-state=done]")
    page.wait_for_function("!document.querySelector('.lt-card').innerText.includes('Being put')")
    page.focus(".lt-scrub")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(1000)


def main() -> None:
    """Serve the app, visit it, and take the pictures."""
    with private_folder(), sync_playwright() as playwright:
        from detector.interface import launch

        blocks = launch(open_browser=False, block=False)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(PATIENCE)
        show(page, str(blocks.local_url), sys.argv[1] if len(sys.argv) > 1 else "manipulated")
        page.screenshot(path=HERE / "answer.png")
        page.wait_for_function(
            "() => document.querySelectorAll('#faces .plate details').length > 0", timeout=PATIENCE
        )
        page.locator("#evidence").screenshot(path=HERE / "faces.png")
        browser.close()
        blocks.close()


if __name__ == "__main__":
    main()
