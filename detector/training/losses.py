"""The loss functions. A logit above 0 says fake; in pairs, real and fake alternate in the batch."""

import torch
from torch import nn

FULLY_FORGED = 0.8  # a cell with at least this share of forged pixels counts as wholly forged
TARGET_WEIGHT = 0.2  # of the squared distance from the target logit, relative to the ranking loss


def weighted_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weights: tuple[float, float],
    smoothing: float = 0.0,
    focal: float = 0.0,
) -> torch.Tensor:
    """Binary cross-entropy with class weights, label smoothing and a focal exponent.

    Args:
        logits: (n,).
        labels: (n,), 0 for real, 1 for fake; with a teacher, between them.
        weights: of real and of fake samples.
        smoothing: how far the targets lie from 0 and 1.
        focal: exponent of the focal loss; 0 gives plain cross-entropy.
    """
    soft = labels * (1 - 2 * smoothing) + smoothing
    loss = nn.functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    if focal:
        right = torch.sigmoid(torch.where(labels > 0.5, logits, -logits))
        loss = loss * (1 - right) ** focal
    each = torch.where(labels > 0.5, weights[1], weights[0])
    return (loss * each).mean()


def signs_loss(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0, pair_weight: float = 0.0
) -> torch.Tensor:
    """Softmax cross-entropy over real (logit fixed at 0) and the signs, plus a ranking loss.

    The ranking loss compares the two halves of each pair: the log-sum-exp of the fake's logits
    should exceed that of the real's.

    Args:
        logits: (n, signs).
        labels: (n,), 0 for real, k for a fake that shows the k-th sign.
        smoothing: label smoothing of the cross-entropy.
        pair_weight: weight of the ranking loss.
    """
    with_real = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    loss = nn.functional.cross_entropy(with_real, labels.long(), label_smoothing=smoothing)
    if pair_weight:
        evidence = logits.logsumexp(1)
        real, fake = evidence[0::2], evidence[1::2]
        loss = loss + pair_weight * nn.functional.softplus(real - fake).mean()
    return loss


def paired_loss(logits: torch.Tensor, labels: torch.Tensor, target: float) -> torch.Tensor:
    """Ranking loss within pairs, plus the squared distance of real logits from a target.

    With cross-entropy, a poor real picture gets a higher logit than a sharp one, because there a
    forgery could not be told from it. Here all real pictures share one target, whatever their
    quality, so the false alarm rate depends less on the quality of the picture.

    Args:
        logits: (n,).
        labels: (n,). A pair of two real halves adds nothing to the ranking loss.
        target: the logit that real pictures should get.
    """
    real, forged = logits[0::2], logits[1::2]
    differ = labels[1::2] > labels[0::2]
    ranking = nn.functional.softplus(real - forged)[differ].sum() / max(1, len(real))
    return ranking + TARGET_WEIGHT * ((logits - target) ** 2)[labels < 0.5].mean()


def per_cell_loss(maps: torch.Tensor, mask_grid: torch.Tensor, target: float) -> torch.Tensor:
    """`paired_loss` for every cell of the last feature map.

    Forged cells are ranked above the same cells of the real half; all other cells are pulled to
    the target.

    Args:
        maps: (n, h, w), a logit for each cell.
        mask_grid: (n, cells, cells), the forged share of each cell, at any resolution.
        target: the logit that cells of real faces should get.
    """
    mask_grid = nn.functional.adaptive_avg_pool2d(mask_grid, (maps.shape[1], maps.shape[2]))
    mask_grid = (mask_grid / FULLY_FORGED).clamp(0, 1)
    real, forged, mask = maps[0::2], maps[1::2], mask_grid[1::2]
    ranking = (nn.functional.softplus(real - forged) * mask).sum((1, 2))
    ranking = ranking / mask.sum((1, 2)).clamp(min=0.5)
    distance = (real - target) ** 2 + (1 - mask) * (forged - target) ** 2
    return ranking.mean() + TARGET_WEIGHT * distance.mean() / 2
