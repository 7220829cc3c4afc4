"""MTCNN: boxes and landmarks of the faces in an image. The only importer of facenet_pytorch.

The three networks and their weights are facenet-pytorch's; the search around them is faster than
its `detect`: candidates are cut with OpenCV from a pyramid of halved images, and fewer sizes are
searched, none below the size that is asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import torch
from facenet_pytorch.models.mtcnn import ONet, PNet, RNet
from torchvision.ops import nms

from detector.records import Image

THRESHOLDS = (0.7, 0.7, 0.7)  # of the three networks' confidences
FACTOR = 0.6  # from one size searched to the next
CELL, STRIDE = 12, 2  # pixels the first network sees at once, and the steps it takes
SECOND_SIDE, THIRD_SIDE = 24, 48  # what the second and the third network see


@dataclass(frozen=True)
class Detection:
    """A face in an image."""

    box: np.ndarray
    """(4,) float: left, top, right, bottom."""
    confidence: float
    landmarks: np.ndarray
    """(5, 2) float: eyes, nose, mouth corners."""


class Pyramid:
    """An image and its successive halves, computed on demand."""

    def __init__(self, image: Image) -> None:
        self.levels = [image]

    def at_least(self, share: float) -> Image:
        """The smallest level that has at least `share` of the full size."""
        wanted = max(0, int(np.floor(-np.log2(min(1.0, share)) + 1e-9)))
        while len(self.levels) <= wanted and min(self.levels[-1].shape[:2]) >= 2:
            last = self.levels[-1]
            size = last.shape[1] // 2, last.shape[0] // 2
            self.levels.append(cv2.resize(last, size, interpolation=cv2.INTER_AREA))
        return self.levels[min(wanted, len(self.levels) - 1)]

    def cut(self, boxes: np.ndarray, side: int) -> np.ndarray:
        """Cut and resize each box, (n, side, side, 3); boxes are clipped at the image's edge."""
        height, width = self.levels[0].shape[:2]
        cuts = np.zeros((len(boxes), side, side, 3), np.uint8)
        for number, box in enumerate(boxes):
            level = self.at_least(side / max(1.0, box[3] - box[1]))
            across, down = level.shape[1] / width, level.shape[0] / height
            left, right = int(max(0, box[0]) * across), int(np.ceil(min(width, box[2]) * across))
            top, bottom = int(max(0, box[1]) * down), int(np.ceil(min(height, box[3]) * down))
            if right > left and bottom > top:
                cv2.resize(
                    level[top:bottom, left:right], (side, side), cuts[number],
                    interpolation=cv2.INTER_AREA,
                )  # fmt: skip
        return cuts


class Cascade:
    """MTCNN's three networks; each filters and refines the candidates of the one before."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.networks = PNet().eval(), RNet().eval(), ONet().eval()
        for network, last in zip(self.networks, ("4_1", "5_1", "6_1"), strict=True):
            # A softmax of two values is a sigmoid of their difference. torch's softmax over many
            # positions takes longer than all of the convolutions.
            setattr(network, f"softmax{last}", torch.nn.Identity())
            network.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def find(self, image: Image, smallest: float) -> list[Detection]:
        """The faces of an image; `smallest` is the side of the smallest window, in pixels."""
        pyramid = Pyramid(image)
        boxes = self._propose(pyramid, smallest)
        if not len(boxes):
            return []
        boxes = self._refine(pyramid, boxes)
        if not len(boxes):
            return []
        return self._conclude(pyramid, boxes)

    def _run(self, stage: int, pictures: np.ndarray) -> tuple[np.ndarray, ...]:
        """Run one network on uint8 pictures, (n, h, w, 3); the last output is the confidence."""
        given = torch.from_numpy(pictures).to(self.device).permute(0, 3, 1, 2)
        given = given.float().sub_(127.5).mul_(1 / 128)
        *others, evidence = self.networks[stage](
            given.contiguous(memory_format=torch.channels_last)
        )
        confidence = torch.sigmoid(evidence[:, 1] - evidence[:, 0])
        return tuple(answer.cpu().numpy() for answer in (*others, confidence))

    def _propose(self, pyramid: Pyramid, smallest: float) -> np.ndarray:
        """Candidate boxes of the first network, (n, 4)."""
        height, width = pyramid.levels[0].shape[:2]
        scale, boxes, scores = CELL / smallest, [], []
        while min(height, width) * scale >= CELL:
            size = int(width * scale + 1), int(height * scale + 1)
            small = cv2.resize(pyramid.at_least(scale), size, interpolation=cv2.INTER_AREA)
            moves, likely = self._run(0, small[None])
            rows, columns = np.nonzero(likely[0] >= THRESHOLDS[0])
            corners = np.stack([columns, rows], axis=1) * STRIDE
            found = np.hstack([corners, corners + CELL]) / scale
            kept = _suppress(found, likely[0, rows, columns], 0.5)
            boxes.append(_move(found[kept], moves[0, :, rows, columns][kept]))
            scores.append(likely[0, rows, columns][kept])
            scale *= FACTOR
        if not boxes:
            return np.zeros((0, 4))
        together, likely = np.concatenate(boxes), np.concatenate(scores)
        return _square(together[_suppress(together, likely, 0.7)])

    def _refine(self, pyramid: Pyramid, boxes: np.ndarray) -> np.ndarray:
        moves, likely = self._run(1, pyramid.cut(boxes, SECOND_SIDE))
        passed = likely > THRESHOLDS[1]
        boxes, moves, likely = boxes[passed], moves[passed], likely[passed]
        kept = _suppress(boxes, likely, 0.7)
        return _square(_move(boxes[kept], moves[kept]))

    def _conclude(self, pyramid: Pyramid, boxes: np.ndarray) -> list[Detection]:
        moves, points, likely = self._run(2, pyramid.cut(boxes, THIRD_SIDE))
        passed = likely > THRESHOLDS[2]
        boxes, moves, points, likely = boxes[passed], moves[passed], points[passed], likely[passed]
        sides = (boxes[:, 2:] - boxes[:, :2])[:, None]
        landmarks = boxes[:, None, :2] + points.reshape(-1, 2, 5).transpose(0, 2, 1) * sides
        boxes = _move(boxes, moves).astype(np.float32)
        return only_apart(
            [
                Detection(box, float(c), points.astype(np.float32))
                for box, c, points in zip(boxes, likely, landmarks, strict=True)
            ]
        )


@cache
def load_cascade(device: str = "cpu") -> Cascade:
    """The networks, loaded once for each process and device."""
    return Cascade(device)


def _suppress(boxes: np.ndarray, scores: np.ndarray, limit: float) -> np.ndarray:
    """Non-maximum suppression at an overlap of `limit`; the indices of the boxes that are kept."""
    kept = nms(torch.from_numpy(boxes.astype(np.float32)), torch.from_numpy(scores), limit)
    return kept.numpy()


def only_apart(found: Sequence[Detection], limit: float = 0.7) -> list[Detection]:
    """Drop detections that share more than `limit` of the smaller area with a likelier one."""
    kept: list[Detection] = []
    for face in sorted(found, key=lambda d: -d.confidence):
        if all(_overlap(face.box, other.box) <= limit for other in kept):
            kept.append(face)
    return kept


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    shared = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    areas = (first[2:] - first[:2]).prod(), (second[2:] - second[:2]).prod()
    return float(shared.clip(0).prod() / max(min(areas), 1e-6))


def _move(boxes: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Shift box corners by the given shares of the box's sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + moves * np.hstack([sides, sides])


def _square(boxes: np.ndarray) -> np.ndarray:
    """The smallest square around each box, with the same centre."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.hstack([middle - half, middle + half])
