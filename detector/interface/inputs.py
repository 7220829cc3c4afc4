"""Keep gradio from opening uploads or fetching URLs itself."""

from typing import Any, TypeVar

from gradio import processing_utils
from gradio.components import Component

Input = TypeVar("Input", bound=Component)


def unopened(component: Input) -> Input:
    """Make a component pass on an upload's path without opening the file.

    gr.Image would decode it in this process instead of the sandbox, with all of Pillow's plug-ins;
    gr.File would leave an empty temporary file each time.
    """
    component.preprocess = _hand_on  # type: ignore[method-assign]
    return component


def _hand_on(payload: Any) -> str | None:
    return None if payload is None else payload.path


def fetch_nothing() -> None:
    """Keep gradio from downloading URLs that API clients send in place of files.

    It would download a file of any size into memory.
    """
    processing_utils.async_ssrf_protected_download = _leave_alone
    processing_utils.ssrf_protected_download = _leave


def is_address(path: str) -> bool:
    """Whether a path is a URL."""
    return path.lower().startswith(("http://", "https://"))


async def _leave_alone(url: str, cache_dir: str) -> str:
    return url


def _leave(url: str, cache_dir: str) -> str:
    return url
