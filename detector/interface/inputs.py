"""Where files come in. Gradio's own components open them: these hand on the path alone."""

from typing import Any

import gradio as gr


class Picture(gr.Image):
    """A picture that is opened behind the fence, not here."""

    def preprocess(self, payload: Any) -> Any:
        """The path of the upload."""
        return None if payload is None else payload.path


class AnyFile(gr.File):
    """One file of any kind. Gradio's leaves an empty file behind each time."""

    def preprocess(self, payload: Any) -> Any:
        """The path of the upload."""
        return None if payload is None else payload.path
