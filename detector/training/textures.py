"""The texture head: a linear discriminant that tells drawn faces by the textures of early stages.

Generators leave traces in the fine structure of the whole picture. The first stages of a network
describe it; the last one generalises less well to other generators.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from detector.architectures import Network
from detector.errors import UserError
from detector.records import SIGNS, Image
from detector.scoring import crops_to_tensor
from detector.settings import Progress, silent
from detector.training.datasets import Row, read_index
from detector.training.mixture import CLIPS_COUNTED, REAL, SIGN_OF, crop_face
from detector.training.sequence import group_videos
from detector.weights import Checkpoint, load_network, save_checkpoint

STAGES = 4  # first stages of the backbone that are read; later ones generalised less well
FACES = 3  # faces of a clip that are read
SHRINKAGE = 10.0  # added to each feature's variance, in mean variances
DRAWN = SIGNS.index("drawn")


def add_texture_head(
    checkpoint: Checkpoint, folder: Path, out: Path, progress: Progress = silent
) -> str:
    """Write an uncalibrated copy of a checkpoint that has a texture head.

    Args:
        checkpoint: the checkpoint; data sets that its training left out are left out here too.
        folder: holds `index.csv` and the crops.
        out: the file to write.
        progress: called with the fraction of clips done.

    Returns:
        The new file's sha256.

    Raises:
        UserError: as `fit_texture_head`.
    """
    network = load_network(checkpoint)
    metadata = checkpoint.metadata
    training = dict(metadata.get("training", {}))
    margin = float(metadata["margin"])
    fit_texture_head(network, folder, margin, training.get("left_out", ()), progress)
    about = {
        "training": {**training, "texture_head": STAGES},
        "licence": metadata.get("licence", ""),
    }
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
        progress: called with the fraction of clips done.

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
        numbers = sorted({round(n) for n in np.linspace(0, len(video) - 1, FACES)})
        of_faces = _read_textures(network, [crop_face(folder, video[n], margin) for n in numbers])
        clip_logits, clip_textures = (values.mean(0) for values in of_faces)
        logits.append(clip_logits[DRAWN])
        textures.append(clip_textures)
        labels.append(_label(video[0]))
        datasets.append(video[0].dataset)
    drawn = np.array(labels, bool)
    features = np.stack(textures)
    direction, offset = discriminant(features, drawn, _clip_weights(drawn, datasets))
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
    deviations = features.std(0) + 1e-3
    scaled = features / deviations
    covariance = np.zeros((features.shape[1], features.shape[1]))
    means = []
    for chosen in (~drawn, drawn):
        own = weights[chosen] / weights[chosen].sum()
        mean = own @ scaled[chosen]
        centred = scaled[chosen] - mean
        covariance += (centred * own[:, None]).T @ centred / 2
        means.append(mean)
    covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    direction = np.linalg.solve(covariance, means[1] - means[0])
    offset = -float(direction @ (means[0] + means[1])) / 2
    return direction / deviations, offset


def _label(row: Row) -> bool | None:
    """Whether a face is drawn; None for pasted ones."""
    if row.kind == REAL:
        return False
    return True if SIGN_OF.get(row.kind) == DRAWN + 1 else None


def _clip_weights(drawn: np.ndarray, datasets: Sequence[str]) -> np.ndarray:
    """Weights by which each class of a data set counts as the root of its number of clips."""
    names = np.array([f"{dataset}/{label}" for dataset, label in zip(datasets, drawn, strict=True)])
    _, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
    return (np.sqrt(np.minimum(CLIPS_COUNTED, counts)) / counts)[inverse]


def _read_textures(network: Network, crops: Sequence[Image]) -> tuple[np.ndarray, np.ndarray]:
    """The backbone's logits and textures of a few crops."""
    pictures = crops_to_tensor(crops, network.architecture.side, torch.device("cpu"))
    with torch.inference_mode():
        logits, textures = network.logits_and_textures(pictures, STAGES)
    return logits.numpy(), textures.numpy().astype(np.float64)
