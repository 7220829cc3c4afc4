"""Where files come in. Gradio's own components open what is dropped: these hand on its path alone."""

from typing import Any

import gradio as gr

from gradio.events import Dependency

class Picture(gr.Image):
    """A picture that is opened behind the fence, not here."""

    def preprocess(self, payload: Any) -> Any:
        """The path of the upload."""
        return None if payload is None else payload.path
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component


class AnyFile(gr.File):
    """One file of any kind. Gradio's leaves an empty file behind each time."""

    def preprocess(self, payload: Any) -> Any:
        """The path of the upload."""
        return None if payload is None else payload.path
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component