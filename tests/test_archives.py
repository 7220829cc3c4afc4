from pathlib import Path

from benchmarks import archives


def test_every_nth_clip_is_linked(tmp_path: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    for name in ("a/1.mp4", "a/2.mp4", "b/3.mkv", "b/notes.txt"):
        (clips / name).parent.mkdir(parents=True, exist_ok=True)
        (clips / name).write_bytes(name.encode())
    out.mkdir()
    assert archives.link_every(clips, out, 2) == 2
    linked = {path.name: path.read_bytes() for path in out.iterdir()}
    assert linked == {"000.mp4": b"a/1.mp4", "001.mkv": b"b/3.mkv"}


def test_scans_are_alike_by_label_and_probability() -> None:
    first = {"a.mp4": ("no_signs", 0.2), "b.mp4": ("", 0.0)}
    assert archives.are_alike(first, {**first, "a.mp4": ("no_signs", 0.2005)})
    assert not archives.are_alike(first, {**first, "a.mp4": ("no_signs", 0.202)})
    assert not archives.are_alike(first, {**first, "a.mp4": ("inconclusive", 0.2)})
    assert not archives.are_alike(first, {"a.mp4": ("no_signs", 0.2)})
