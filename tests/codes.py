"""Errors with a code, as several tests expect them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from detector.errors import UserError


@contextmanager
def raises_code(code: str, match: str | None = None) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expect a UserError with this code, and with a message that `match` matches, if given."""
    with pytest.raises(UserError, match=match) as caught:
        yield caught
    assert caught.value.code == code
