"""The Gradio app: layout, events and sessions. The only importer of gradio."""

import os
import time

import gradio as gr
from fastapi.middleware import Middleware
from gradio.tunneling import CURRENT_TUNNELS

from detector.interface.checks import EXAMPLES
from detector.interface.inputs import disable_downloads
from detector.interface.layout import build_interface, i18n, read_part
from detector.interface.room import UploadLimiter
from detector.interface.sessions import temporary_folder
from detector.turns import be_fair

__all__ = ["build_interface", "launch"]

CSS = read_part("style.css")
CLOSING_SECONDS = 1.0

THEME = gr.themes.Base(
    primary_hue="slate",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    button_primary_background_fill="#24364b",
    button_primary_background_fill_hover="#31485f",
    button_primary_text_color="#ffffff",
    button_primary_background_fill_dark="#c9d6e3",
    button_primary_background_fill_hover_dark="#e2eaf2",
    button_primary_text_color_dark="#10202f",
)


def launch(
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    share: bool = False,
    open_browser: bool = True,
    block: bool = True,
) -> gr.Blocks:
    """Serve the app.

    Args:
        host: address to listen on, by default this machine alone; ignored on a Space.
        port: port to listen on; None for the first free one.
        share: also make a public link through Gradio's servers.
        open_browser: open a browser window; never on a Space.
        block: return only when the server is stopped.
    """
    on_space = "SPACE_ID" in os.environ
    temporary_folder()
    disable_downloads()
    blocks = build_interface().queue(max_size=32, default_concurrency_limit=4)
    be_fair(blocks._queue)
    blocks.launch(
        server_name=None if on_space else host,
        server_port=port,
        share=share,
        inbrowser=open_browser and not on_space,
        allowed_paths=[str(EXAMPLES)],
        theme=THEME,
        css=CSS,
        run_history=False,
        footer_links=["api", "gradio"],
        i18n=i18n,
        mcp_server=has_mcp(),
        max_file_size="2gb",
        app_kwargs={"middleware": [Middleware(UploadLimiter)]},
        show_error=True,
        prevent_thread_lock=True,
        quiet=not block,
    )
    if block:
        wait_for_interrupt(blocks)
    return blocks


def wait_for_interrupt(blocks: gr.Blocks) -> None:
    """Serve until Ctrl-C, then give requests in progress CLOSING_SECONDS.

    Gradio's own `block_thread` gives them five seconds, which open pages always use up: their event
    streams do not end.
    """
    try:
        while blocks.is_running:
            time.sleep(0.1)
    except KeyboardInterrupt:
        blocks.server.should_exit = True
        blocks.server.thread.join(CLOSING_SECONDS)
        for tunnel in CURRENT_TUNNELS:
            tunnel.kill()


def has_mcp() -> bool:
    """Whether gradio's MCP extra is installed; without it gradio silently serves no MCP."""
    from importlib.util import find_spec

    return find_spec("mcp") is not None
