from pathlib import Path

from benchmarks import parallel
from detector.training.datasets import Row, read_index, write_index


def test_the_smallest_clips_of_each_class_are_linked(tmp_path: Path) -> None:
    for label in ("real", "fake"):
        (tmp_path / "clips" / label).mkdir(parents=True)
        for size in (30, 10, 20):
            (tmp_path / "clips" / label / f"{size}.mp4").write_bytes(bytes(size))
        (tmp_path / "clips" / label / "notes.txt").write_bytes(b"")
    parallel.link_smallest(tmp_path / "clips", tmp_path / "out", 2)
    for label in ("real", "fake"):
        linked = sorted((tmp_path / "out" / label).iterdir())
        assert [path.name for path in linked] == ["10.mp4", "20.mp4"]
        assert len(linked[0].read_bytes()) == 10


def test_a_few_faces_of_an_index_point_at_the_same_crops(tmp_path: Path) -> None:
    rows = [
        Row(f"crops/{number}.jpg", 0, "v", "g", "d", "m", split, 0, 0.0, 9)
        for split in ("train", "val", "test")
        for number in range(4000)
    ]
    (tmp_path / "index").mkdir()
    write_index(tmp_path / "index" / "index.csv", rows)
    parallel.write_few(tmp_path / "index", tmp_path / "few")
    few = read_index(tmp_path / "few" / "index.csv")
    splits = [row.split for row in few]
    assert (splits.count("train"), splits.count("val"), splits.count("test")) == (1000, 200, 0)
    second = (tmp_path / "few" / few[1].crop).resolve()
    assert second == (tmp_path / "index" / "crops" / "4.jpg").resolve()
