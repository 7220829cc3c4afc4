"""The texture head: a linear discriminant that tells drawn faces by the textures of early stages.

Generators leave traces in the fine structure of the whole picture. The first stages of a network
describe it; the last one tells other generators' faces less well.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from detector.architectures import Network
from detector.errors import UserError
from detector.records import SIGNS
from detector.records import Image as Pixels
from detector.scoring import crops_to_tensor
from detector.settings import Progress, silent
from detector.training.datasets import Row, read_index
from detector.training.mixture import CLIPS_COUNTED, REAL, SIGN_OF, show
from detector.training.sequence import group_videos
from detector.weights import Checkpoint, load_network, save_checkpoint

STAGES = 4  # of the backbone; later ones carried over less well
FACES = 3  # of a clip
SHRINKAGE = 10.0  # added to each feature's variance, in mean variances
DRAWN = SIGNS.index("drawn")


def add_texture_head(
    checkpoint: Checkpoint, folder: Path, out: Path, progress: Progress = silent
) -> str:
    """Write an uncalibrated copy of a checkpoint that has a texture head; its sha256.

    What the checkpoint's training left out is left out here too.
    """
    network = load_network(checkpoint)
    known = checkpoint.metadata
    training = dict(known.get("training", {}))
    margin = float(known["margin"])
    fit_texture_head(network, folder, margin, training.get("left_out", ()), progress)
    about = {"training": {**training, "texture_head": STAGES}, "licence": known.get("licence", "")}
    return save_checkpoint(out, network, margin=margin, about=about)


def fit_texture_head(
    network: Network,
    folder: Path,
    margin: float,
    left_out: Sequence[str] = (),
    progress: Progress = silent,
) -> None:
    """Give a network a texture head that was fitted to the genuine and drawn faces of an index.

    What the head adds to the drawn logit varies as much over genuine clips as that logit itself.

    Args:
        network: an EfficientNet with both signs; it gets the head.
        folder: holds `index.csv` and the crops, with the face's box inside each.
        margin: share of the face's box that crops show around it.
        left_out: data sets not to learn from.
        progress: told how far it is.

    Raises:
        UserError: `weights_mismatch` if the network looks for one sign only, `one_class` if there
            are no genuine or no drawn faces to learn from.
    """
    if network.architecture.signs != SIGNS:
        raise UserError("weights_mismatch", "The network does not look for drawn faces.")
    rows = [
        row
        for row in read_index(folder / "index.csv")
        if row.right and row.dataset not in left_out and _label(row) is not None
    ]
    if len({_label(row) for row in rows}) < 2:
        raise UserError("one_class", f"{folder} does not hold both genuine and drawn faces.")
    textures, logits, labels, datasets = [], [], [], []
    videos = group_videos(rows)
    for number, video in enumerate(videos):
        progress("clips", number / len(videos))
        places = sorted({round(p) for p in np.linspace(0, len(video) - 1, FACES)})
        of_faces = _look(network, [show(folder, video[p], margin) for p in places])
        clip_logits, clip_textures = (values.mean(0) for values in of_faces)
        logits.append(clip_logits[DRAWN])
        textures.append(clip_textures)
        labels.append(_label(video[0]))
        datasets.append(video[0].dataset)
    drawn = np.array(labels, bool)
    features = np.stack(textures)
    direction, offset = discriminant(features, drawn, _weigh(drawn, datasets))
    genuine = features[~drawn] @ direction
    scale = np.std(np.array(logits)[~drawn]) / np.std(genuine)
    head = network.add_texture_head(STAGES)
    with torch.no_grad():
        head.weight[DRAWN] = torch.from_numpy(direction * scale)
        head.bias[DRAWN] = float(offset * scale)


def discriminant(
    features: np.ndarray, drawn: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, float]:
    """Fisher's linear discriminant with a strongly shrunk covariance.

    Args:
        features: (n, features).
        drawn: (n,), the class of each.
        weights: (n,), how much each counts.

    Returns:
        The direction, (features,), and the offset that puts zero between the two classes' means.
    """
    spread = features.std(0) + 1e-3
    scaled = features / spread
    covariance = np.zeros((features.shape[1], features.shape[1]))
    means = []
    for chosen in (~drawn, drawn):
        share = weights[chosen] / weights[chosen].sum()
        mean = share @ scaled[chosen]
        off = scaled[chosen] - mean
        covariance += (off * share[:, None]).T @ off / 2
        means.append(mean)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    direction = np.linalg.solve(covariance, means[1] - means[0])
    offset = -float(direction @ (means[0] + means[1])) / 2
    return direction / spread, offset


def _label(row: Row) -> bool | None:
    """Whether a face is drawn; None for pasted ones."""
    if row.kind == REAL:
        return False
    return True if SIGN_OF.get(row.kind) == DRAWN + 1 else None


def _weigh(drawn: np.ndarray, datasets: Sequence[str]) -> np.ndarray:
    """A clip's weight: data sets count by the root of their clips."""
    names = np.array([f"{dataset}/{label}" for dataset, label in zip(datasets, drawn, strict=True)])
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    return (np.sqrt(np.minimum(CLIPS_COUNTED, counts)) / counts)[place]


def _look(network: Network, crops: Sequence[Pixels]) -> tuple[np.ndarray, np.ndarray]:
    """The backbone's logits and textures of a few crops."""
    pictures = crops_to_tensor(crops, network.architecture.side, torch.device("cpu"))
    with torch.inference_mode():
        logits, textures = network.look(pictures, STAGES)
    return logits.numpy(), textures.numpy().astype(np.float64)
