"""Fifty seeded mutations of every kind of file: each is answered, and the decoder lives on."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.fuzz import FILE_CODES, KINDS, make_file, mutate
from detector import fence as module
from detector.errors import UserError
from detector.fence import DecoderPool, open_clip
from detector.settings import Settings


@pytest.fixture(scope="module")
def fenced() -> object:
    own = DecoderPool(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "decoder_pool", lambda: own)
        yield own
    own.close()


def answer(path: Path) -> str:
    """Everything that is done with a file's content: the code of an error, or none."""
    try:
        with open_clip(path, Settings(key_frames=3, max_decode_time=10)) as seen:
            shapes = [k.image.shape for k in seen.key_frames()]
            told = seen.provenance()
    except UserError as error:
        return error.code
    assert shapes
    assert seen.video.duration < 700_000
    assert len(told.sha256) == 64
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_read(fenced: DecoderPool, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"whole.{kind}"
    path.write_bytes(make_file(kind))
    assert answer(path) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_answered(fenced: DecoderPool, tmp_path: Path, kind: str) -> None:
    whole, path = make_file(kind), tmp_path / f"damaged.{kind}"
    codes = set()
    for number in range(50):
        path.write_bytes(mutate(whole, np.random.default_rng([77, number])))
        codes.add(answer(path))
    assert codes <= {"", *FILE_CODES}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
