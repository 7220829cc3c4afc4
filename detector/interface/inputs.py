"""Where files come in."""

from typing import Any, TypeVar

from gradio import processing_utils
from gradio.components import Component

Input = TypeVar("Input", bound=Component)


def unopened(component: Input) -> Input:
    """The component, which hands on an upload's path alone.

    Gradio's picture would open it here, in front of the fence, with every plug-in of Pillow's; its
    file would leave an empty one behind each time.
    """
    component.preprocess = _hand_on  # type: ignore[method-assign]
    return component


def _hand_on(payload: Any) -> str | None:
    return None if payload is None else payload.path


def fetch_nothing() -> None:
    """Have gradio leave the addresses that programs send in place of files as they are.

    It would fetch what lies there, whatever its size, and hold it in memory.
    """
    processing_utils.async_ssrf_protected_download = _leave_alone
    processing_utils.ssrf_protected_download = _leave


def is_address(place: str) -> bool:
    """Whether it is an address on the network."""
    return place.lower().startswith(("http://", "https://"))


async def _leave_alone(url: str, cache_dir: str) -> str:
    return url


def _leave(url: str, cache_dir: str) -> str:
    return url
