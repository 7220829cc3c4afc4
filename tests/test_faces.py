import cv2
import numpy as np
import pytest
from clips import make_face, other_portrait, portrait, texture
from facenet_pytorch import MTCNN

from detector.faces import CROP_MARGIN, FaceFinder, cut, group_people, square_around
from detector.records import Face, Image, KeyFrame

FACE = (178, 62, 270, 180)  # of the portrait, by eye


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


def find(finder: FaceFinder, *images: Image, threads: int = 1) -> list[Face]:
    key_frames = [KeyFrame(i, i / 25, 0.0, image) for i, image in enumerate(images)]
    return finder.find(key_frames, threads=threads)


def overlap(first: tuple[int, ...], second: tuple[int, ...]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (first, second)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize("scale", [0.4, 1.0, 4.0, 8.0])
def test_box_is_right_in_small_and_huge_frames(finder: FaceFinder, scale: float) -> None:
    side = round(512 * scale)
    (face,) = find(finder, cv2.resize(portrait(), (side, side), interpolation=cv2.INTER_AREA))
    assert overlap(face.box, tuple(round(v * scale) for v in FACE)) > 0.6
    assert face.confidence > 0.95


def test_crop_is_square_and_centred(finder: FaceFinder) -> None:
    (face,) = find(finder, portrait())
    left, top, right, bottom = face.crop_box
    assert right - left == bottom - top == face.crop.shape[0] == face.crop.shape[1]
    assert right - left == pytest.approx((1 + CROP_MARGIN) * (face.box[3] - face.box[1]), abs=2)
    assert (left + right) / 2 == pytest.approx((face.box[0] + face.box[2]) / 2, abs=1)
    assert np.array_equal(face.crop, portrait()[top:bottom, left:right])


def test_crop_at_the_edge_keeps_its_shape(finder: FaceFinder) -> None:
    (face,) = find(finder, np.ascontiguousarray(portrait()[80:, 185:]))
    assert face.crop.shape[0] == face.crop.shape[1]
    assert face.crop_box[0] < 0 or face.crop_box[1] < 0


def test_face_that_fills_the_frame(finder: FaceFinder) -> None:
    left, top, right, bottom = FACE
    assert len(find(finder, np.ascontiguousarray(portrait()[top:bottom, left:right]))) == 1


def test_no_face_is_an_empty_list(finder: FaceFinder) -> None:
    assert find(finder, texture(1, 320, 240)) == []
    assert find(finder, np.zeros((4, 4, 3), np.uint8)) == []
    assert find(finder) == []


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (lambda: cv2.resize(portrait(), (150, 150), interpolation=cv2.INTER_AREA), "small"),
        (lambda: cv2.GaussianBlur(portrait(), (0, 0), 5), "blurred"),
    ],
    ids=["small", "blurred"],
)
def test_faces_that_cannot_be_judged_are_kept_and_marked(
    finder: FaceFinder, image: object, why: str
) -> None:
    (face,) = find(finder, image())  # type: ignore[operator]
    assert face.unfit is not None
    assert why in face.unfit


def test_sharp_frontal_face_is_fit(finder: FaceFinder) -> None:
    assert find(finder, portrait())[0].unfit is None


def two_people(swapped: bool) -> Image:
    other = cv2.resize(other_portrait(), (437, 512), interpolation=cv2.INTER_AREA)
    pair = [portrait(), other]
    return np.hstack(pair[::-1] if swapped else pair)


def test_two_people_who_swap_places_stay_two_people(finder: FaceFinder) -> None:
    images = [two_people(number >= 3) for number in range(6)]
    people = group_people(find(finder, *images))
    assert [len(p.faces) for p in people] == [6, 6]
    assert [p.id for p in people] == [1, 2]
    for person in people:
        sides = [face.box[0] > 480 for face in person.faces]
        assert sides in ([False] * 3 + [True] * 3, [True] * 3 + [False] * 3)


def test_one_person_across_a_cut_is_one_person(finder: FaceFinder) -> None:
    wide = cv2.copyMakeBorder(portrait(), 60, 60, 400, 60, cv2.BORDER_REPLICATE)
    near = cv2.resize(portrait(), (900, 900), interpolation=cv2.INTER_CUBIC)
    lit = np.clip(near * 0.85 + 12, 0, 255).astype(np.uint8)
    people = group_people(find(finder, portrait(), wide, texture(2, 400, 300), near, lit))
    assert [len(p.faces) for p in people] == [4]


def test_two_faces_of_one_frame_are_never_one_person() -> None:
    looks = np.array([1, 0, 0, 0], np.float32)
    faces = [make_face(0, appearance=looks), make_face(0, (300, 40, 380, 140), appearance=looks)]
    assert len(group_people(faces)) == 2
    assert group_people([]) == []


def moved(count: int) -> list[Image]:
    """The portrait under a camera that moves a little."""
    wide = cv2.copyMakeBorder(portrait(), 0, 0, 60, 60, cv2.BORDER_REPLICATE)
    return [np.ascontiguousarray(wide[:, 8 * n : 8 * n + 512]) for n in range(count)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_faces_are_the_same_on_any_number_of_threads(finder: FaceFinder, threads: int) -> None:
    images = moved(9)
    faces = find(finder, *images, threads=threads)
    assert [f.frame_index for f in faces] == list(range(9))
    for number, face in enumerate(faces):
        there = tuple(v + (60 - 8 * number) * (n % 2 == 0) for n, v in enumerate(FACE))
        assert overlap(face.box, there) > 0.6
    for one, other in zip(faces, find(finder, *images), strict=True):
        assert np.abs(np.subtract(one.box, other.box)).max() <= 1
        assert one.confidence == pytest.approx(other.confidence, abs=1e-3)


def searched_whole(finder: FaceFinder, images: list[Image], monkeypatch: object) -> list[int]:
    sizes: list[int] = []
    search = finder._cascade.find

    def watch(image: Image, smallest: float) -> object:
        sizes.append(image.shape[1])
        return search(image, smallest)

    monkeypatch.setattr(finder._cascade, "find", watch)  # type: ignore[attr-defined]
    found = find(finder, *images)
    assert len(found) == len(images)
    return [n for n in sizes if n == images[0].shape[1]]


def test_a_face_that_moves_a_little_is_followed(
    finder: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = np.full((600, 900, 3), 90, np.uint8)
    frames = []
    for number in range(8):
        frame = plain.copy()
        frame[40:552, 100 + 2 * number : 612 + 2 * number] = portrait()
        frames.append(cv2.GaussianBlur(frame, (0, 0), 1))
    assert len(searched_whole(finder, frames, monkeypatch)) == 2


def test_whoever_comes_in_is_found(finder: FaceFinder) -> None:
    alone = np.hstack([portrait(), np.full((512, 437, 3), 90, np.uint8)])
    faces = find(finder, alone, two_people(False), two_people(False))
    assert [f.frame_index for f in faces] == [0, 1, 1, 2, 2]


def test_tiny_faces_are_looked_for_only_where_no_frame_shows_a_larger(finder: FaceFinder) -> None:
    tiny = cv2.resize(portrait(), (150, 150), interpolation=cv2.INTER_AREA)
    assert [f.frame_index for f in find(finder, tiny, tiny)] == [0, 1]
    assert [f.frame_index for f in find(finder, portrait(), tiny)] == [0]


def test_faces_are_those_of_facenet_pytorch(finder: FaceFinder) -> None:
    theirs = MTCNN(keep_all=True)
    for image in (portrait(), other_portrait(), two_people(True)):
        boxes, _, points = theirs.detect(image, landmarks=True)
        ours = find(finder, image)
        assert len(ours) == len(boxes)
        for box, landmarks in zip(boxes, points, strict=True):
            face = max(ours, key=lambda f: overlap(f.box, tuple(box)))
            assert overlap(face.box, tuple(box)) > 0.85
            assert np.abs(face.landmarks - landmarks).max() < 0.06 * (box[2] - box[0])


def test_square_and_cut() -> None:
    assert square_around((10, 20, 30, 60), 0.5) == (-10, 10, 50, 70)
    image = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    out = cut(image, (-1, -1, 3, 3))
    assert out.shape == (4, 4, 3)
    assert np.array_equal(out[1:, 1:], image[:3, :3])
    assert np.array_equal(out[0, 1], image[0, 0])
    assert cut(np.zeros((900, 900, 3), np.uint8), (0, 0, 900, 900), limit=300).shape == (
        300,
        300,
        3,
    )


def test_long_narrow_image_is_not_padded_to_a_square(
    finder: FaceFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def watch(image: Image, smallest: float) -> list[object]:
        sizes.append(image.size)
        return []

    monkeypatch.setattr(finder._cascade, "find", watch)  # type: ignore[attr-defined]
    narrow = np.full((4000, 20, 3), 127, np.uint8)
    assert find(finder, narrow) == []
    assert max(sizes) <= 9 * narrow.size
