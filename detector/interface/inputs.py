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
    component.preprocess = _pass_path  # type: ignore[method-assign]
    return component


def _pass_path(payload: Any) -> str | None:
    return None if payload is None else payload.path


def disable_downloads() -> None:
    """Keep gradio from downloading URLs that API clients send in place of files.

    It would download a file of any size into memory.
    """
    processing_utils.async_ssrf_protected_download = _keep_async
    processing_utils.ssrf_protected_download = _keep


def is_address(path: str) -> bool:
    """Whether a path is a URL."""
    return path.lower().startswith(("http://", "https://"))


async def _keep_async(url: str, cache_dir: str) -> str:
    return url


def _keep(url: str, cache_dir: str) -> str:
    return url
