"""UserError: every error a user can cause, with a code and a message that says what to do.

UserError
├── the file      missing_file, not_a_file, no_permission, empty_file, file_too_large, no_clips,
│                 unreadable_video, no_video_stream, no_frames, frame_too_large, decode_timeout
├── the model     unknown_model, no_weights, weights_corrupt, weights_mismatch, no_network,
│                 no_token, no_device
├── the question  bad_setting, unknown_method, no_face_at_time, unfit_face, bad_report, cancelled
├── training      unknown_recipe, no_data, one_class, bad_run, disk_full
└── the program   internal
"""

import logging
from typing import Final

LOG = logging.getLogger("detector")
LOG.addHandler(logging.NullHandler())  # silent unless the caller sets up logging

CODES: Final[dict[str, str]] = {
    "missing_file": "the path does not exist",
    "not_a_file": "the path is neither a regular file nor a folder",
    "no_permission": "the file may not be read",
    "empty_file": "the file has no bytes",
    "file_too_large": "the file is larger than the limit",
    "no_clips": "the folder holds no video or image file",
    "unreadable_video": "the content is no video or image that can be decoded",
    "no_video_stream": "the file holds sound or data, but no pictures",
    "no_frames": "the file announces a video, but not one frame decodes",
    "frame_too_large": "a frame has more pixels than the limit",
    "decode_timeout": "decoding took longer than the limit, and not one frame can be judged",
    "unknown_model": "no model of this name is in the catalogue",
    "no_weights": "the model has no weights on this machine",
    "weights_corrupt": "a weights file is damaged or is not the file the catalogue names",
    "weights_mismatch": "a weights file belongs to another architecture",
    "no_network": "the weights are on the Hub, and the Hub cannot be reached",
    "no_token": "an upload needs a Hub token, and there is none",
    "no_device": "the chosen device is not on this machine",
    "bad_setting": "a setting is outside its range",
    "unknown_method": "no explanation method has this name",
    "no_face_at_time": "no face was found near this time",
    "unfit_face": "the face is too small, too blurred or too turned away to judge",
    "bad_report": "the report is not one that this program wrote",
    "cancelled": "the scan was cancelled",
    "unknown_recipe": "no training recipe has this name",
    "no_data": "the folder holds nothing to train or evaluate on",
    "one_class": "all labels are the same",
    "bad_run": "the training run cannot be resumed",
    "disk_full": "the disk is full; the previous file was kept",
    "internal": "something in this program went wrong; the log says what",
}
"""The codes and what each means: part of the interface, listed in the README."""


class UserError(Exception):
    """An error that the user can resolve. `code` is stable, `message` says what to do."""

    def __init__(self, code: str, message: str) -> None:
        if code not in CODES:
            raise ValueError(f"{code!r} is not a code of UserError")
        message = printable(message)
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str]]:
        """Pickle support, for errors that cross processes."""
        return UserError, (self.code, self.message)


def as_user_error(error: Exception) -> UserError:
    """Convert an exception to a UserError; an unexpected one is logged and shown without detail."""
    if isinstance(error, UserError):
        return error
    LOG.error("unforeseen: %r", error, exc_info=error)
    return UserError(
        "internal",
        f"Something in Unmask itself went wrong ({type(error).__name__}). The log says what.",
    )


def printable(text: str) -> str:
    """Replace bytes of a file name that are not UTF-8 by escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
