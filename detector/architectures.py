"""The networks by name: how to build each, its input, the layer that explanations are read from.

The only importer of timm. Normalisation is part of the network: every network takes RGB in 0..1,
(n, 3, side, side). It gives one logit for each sign it looks for: pasted, or pasted and drawn.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from detector.errors import UserError
from detector.records import SIGNS

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Architecture:
    """One entry of the catalogue of networks."""

    name: str
    title: str
    timm_name: str | None
    """Its name in timm; None for a network defined here."""
    side: int
    """Default side of the square input, pixels; a checkpoint may have another."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layer: str
    """The last layer with a spatial map, from which class activation maps are computed."""
    recurrent: int = 0
    """Width of the recurrent layer over a person's faces; 0 if each face is judged by itself."""
    contrast: float | None = None
    """Weight of the surround logit, which is subtracted from the centre logit; None averages the
    whole map. Set by the checkpoint."""
    signs: tuple[str, ...] = SIGNS[:1]
    """The signs that the network looks for, one logit each."""
    textures: int = 0
    """How many of the backbone's first stages the texture head reads; 0 if there is none. Set by
    the checkpoint."""


ARCHITECTURES: dict[str, Architecture] = {
    a.name: a
    for a in (
        Architecture("xception", "Xception", "legacy_xception", 299, HALF, HALF, "bn4"),
        Architecture(
            "inception_resnet_v2", "InceptionResNetV2", "inception_resnet_v2",
            299, HALF, HALF, "conv2d_7b",
        ),
        Architecture(
            "efficientnetv2_s", "EfficientNetV2-S", "tf_efficientnetv2_s", 300, HALF, HALF, "bn2"
        ),
        Architecture(
            "efficientnetv2_m", "EfficientNetV2-M", "tf_efficientnetv2_m", 384, HALF, HALF, "bn2"
        ),
        Architecture(
            "densenet201", "DenseNet201", "densenet201",
            224, IMAGENET_MEAN, IMAGENET_STD, "features.norm5",
        ),
        Architecture(
            "inception_v3", "InceptionV3", "inception_v3",
            299, IMAGENET_MEAN, IMAGENET_STD, "Mixed_7c",
        ),
        Architecture(
            "resnet50", "ResNet50", "resnet50", 224, IMAGENET_MEAN, IMAGENET_STD, "layer4"
        ),
        Architecture(
            "efficientnet_b4", "EfficientNet-B4", "tf_efficientnet_b4",
            380, IMAGENET_MEAN, IMAGENET_STD, "bn2",
        ),
        Architecture(
            "efficientnet_lite0", "EfficientNet-Lite0", "tf_efficientnet_lite0",
            224, HALF, HALF, "bn2",
        ),
        Architecture(
            "efficientnet_lite2", "EfficientNet-Lite2", "tf_efficientnet_lite2",
            260, HALF, HALF, "bn2",
        ),
        Architecture("plain_cnn", "Plain CNN", None, 224, HALF, HALF, "features"),
        Architecture(
            "inception_v3_rnn", "InceptionV3 with a recurrent network", "inception_v3",
            299, IMAGENET_MEAN, IMAGENET_STD, "Mixed_7c", recurrent=64,
        ),
        # timm's own small network for tests, alone and under a recurrent layer.
        Architecture(
            "test_efficientnet", "Test network", "test_efficientnet", 64, HALF, HALF, "bn2"
        ),
        Architecture(
            "test_rnn", "Test sequence", "test_efficientnet", 64, HALF, HALF, "bn2", recurrent=8
        ),
    )
}  # fmt: skip


def find_architecture(name: str) -> Architecture:
    """An architecture by its name; raises UserError `unknown_model`, which lists the names."""
    if name not in ARCHITECTURES:
        known = ", ".join(n for n in ARCHITECTURES if not n.startswith("test_"))
        raise UserError("unknown_model", f"There is no architecture {name!r}. Known are: {known}.")
    return ARCHITECTURES[name]


class PlainCNN(nn.Module):
    """The small baseline: four convolutions with pooling, then one hidden layer."""

    def __init__(self, widths: tuple[int, ...] = (16, 32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for number, width in enumerate(widths):
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
            if number < len(widths) - 1:
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(channels, 1)
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, h, w) -> (n, 1)."""
        return self.head(self.features(pictures))

    def forward_features(self, pictures: torch.Tensor) -> torch.Tensor:
        """The last feature map, (n, c, h, w); named as in timm."""
        return self.features(pictures)

    def get_classifier(self) -> nn.Module:
        """The last linear layer; named as in timm."""
        return self.head[-1]


class Network(nn.Module):
    """A backbone with its normalisation in front: RGB 0..1, (n, 3, h, w) -> logits, (n,)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, architecture: Architecture, backbone: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(architecture.mean).view(1, 3, 1, 1), False)
        self.register_buffer("std", torch.tensor(architecture.std).view(1, 3, 1, 1), False)
        self.texture_head: nn.Linear | None = None

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The largest logit of each picture over the signs, (n,)."""
        return self.logits(pictures).amax(1)

    def logits(self, pictures: torch.Tensor) -> torch.Tensor:
        """The logits, (n, signs)."""
        if self.texture_head is not None:
            logits, textures = self.logits_and_textures(pictures, self.architecture.textures)
            return logits + self.texture_head(textures)
        if self.architecture.contrast is None:
            return self.features(pictures)
        return self.read(self.locate(pictures))[:, None]

    def logits_and_textures(
        self, pictures: torch.Tensor, stages: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The backbone's logits, (n, signs), and its textures, (n, 2 x channels).

        Textures are the mean and the standard deviation over the picture of every channel of the
        first `stages` stages of an EfficientNet.
        """
        backbone: Any = self.backbone
        maps = backbone.bn1(backbone.conv_stem((pictures - self.mean) / self.std))
        textures = []
        for number, stage in enumerate(backbone.blocks):
            maps = stage(maps)
            if number < stages:
                whole = maps.float()
                textures += [whole.mean((2, 3)), whole.std((2, 3))]
        logits = backbone.forward_head(backbone.bn2(backbone.conv_head(maps)))
        return logits, torch.cat(textures, 1)

    def add_texture_head(self, stages: int) -> nn.Linear:
        """Give the network a texture head, which adds nothing until it gets weights."""
        last = [
            [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)][-1]
            for stage in self.backbone.blocks[:stages]  # type: ignore[index]
        ]
        head = nn.Linear(2 * sum(m.num_features for m in last), len(self.architecture.signs))
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        self.architecture = replace(self.architecture, textures=stages)
        self.texture_head = head
        return head

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """The backbone's output: logits, (n, signs), or features, (n, features)."""
        return self.backbone((pictures - self.mean) / self.std)

    def locate(self, pictures: torch.Tensor) -> torch.Tensor:
        """Evidence maps, (n, h, w): the classifier applied to each cell of the last feature map."""
        last = self.backbone.forward_features((pictures - self.mean) / self.std)  # type: ignore[operator]
        head = self.backbone.get_classifier()  # type: ignore[operator]
        return torch.einsum("nchw,c->nhw", last, head.weight[0]) + head.bias[0]

    def read(self, maps: torch.Tensor) -> torch.Tensor:
        """The logits, (n,), of evidence maps, (n, h, w).

        Without a contrast, the mean of the map. With one, the mean of the centre minus the weighted
        mean of the surround: what camera and encoder leave in the whole picture cancels out.
        """
        contrast = self.architecture.contrast
        if contrast is None:
            return maps.mean((1, 2))
        _, height, width = maps.shape
        top, left = height // 4, width // 4
        middle = maps[:, top : height - top, left : width - left]
        around = maps.sum((1, 2)) - middle.sum((1, 2))
        cells = max(1, height * width - middle[0].numel())
        return middle.mean((1, 2)) - contrast * around / cells

    @property
    def in_sequence(self) -> bool:
        """Whether a batch must be one person's faces in order, which are judged together."""
        return False

    @property
    def explained_layer(self) -> nn.Module:
        """The layer from which class activation maps are computed."""
        return self.backbone.get_submodule(self.architecture.layer)


class SequenceNetwork(Network):
    """A backbone and a bidirectional GRU over a person's faces in order.

    Each face gets a logit that depends on all faces. Training uses the mean of these logits. Frames
    without a fit face are left out of the sequence.
    """

    def __init__(self, architecture: Architecture, backbone: nn.Module, features: int) -> None:
        super().__init__(architecture, backbone)
        width = architecture.recurrent
        self.recurrent = nn.GRU(features, width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.4)
        self.head = nn.Linear(2 * width, 1)

    @property
    def in_sequence(self) -> bool:
        """True."""
        return True

    def forward(self, pictures: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """The logits of all pictures: one sequence, or several concatenated ones of `lengths`."""
        features = self.features(pictures)
        if lengths is None:
            return self.judge(features[None])[0]
        parts = features.split(lengths.tolist())
        return torch.cat([self.judge(part[None])[0] for part in parts])

    def logits(self, pictures: torch.Tensor) -> torch.Tensor:
        """The logits of one person's pictures, (n, 1)."""
        return self(pictures)[:, None]

    def judge(self, features: torch.Tensor) -> torch.Tensor:
        """The logits, (b, n), of sequences of features, (b, n, features)."""
        states, _ = self.recurrent(features)
        return self.head(self.drop(states)).squeeze(2)


class InContext(Network):
    """A sequence network as a function of one picture, with the person's others held fixed.

    Its logit is the mean over the sequence, so the methods for single faces can explain it.
    """

    def __init__(self, network: SequenceNetwork, pictures: torch.Tensor, position: int) -> None:
        """`pictures` are the person's, in order; the one at `position` is the variable."""
        super().__init__(network.architecture, network.backbone)
        self.network, self.position = network, position
        with torch.no_grad():
            self.others = network.features(pictures)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The person's mean logit with each picture as the variable one, (n,)."""
        features = self.network.features(pictures)
        whole = self.others.to(features.dtype)[None].repeat(len(features), 1, 1)
        whole = torch.cat(
            [whole[:, : self.position], features[:, None], whole[:, self.position + 1 :]], dim=1
        )
        return self.network.judge(whole).mean(1)

    def logits(self, pictures: torch.Tensor) -> torch.Tensor:
        """The same logits, (n, 1)."""
        return self(pictures)[:, None]


class OneSign(Network):
    """A network restricted to one of its signs."""

    def __init__(self, network: Network, number: int) -> None:
        """`number` is the sign's index."""
        super().__init__(network.architecture, network.backbone)
        self.network, self.number = network, number

    def logits(self, pictures: torch.Tensor) -> torch.Tensor:
        """The sign's logits, (n, 1)."""
        return self.network.logits(pictures)[:, self.number, None]


def build_network(
    name: str,
    *,
    side: int | None = None,
    contrast: float | None = None,
    signs: tuple[str, ...] = SIGNS[:1],
    textures: int = 0,
    pretrained: bool = False,
    dropout: float = 0.0,
) -> Network:
    """Build a network with one logit a sign.

    Args:
        name: a key of ARCHITECTURES.
        side: side of the input in pixels; None takes the architecture's.
        contrast: see Architecture.
        signs: the signs to look for.
        textures: see Architecture.
        pretrained: start from timm's ImageNet weights, fetched from the Hub; else random.
        dropout: dropout before the last layer.

    Raises:
        UserError: `unknown_model`, `weights_mismatch` if the architecture cannot have several
            signs or a texture head, `no_network` if the ImageNet weights cannot be fetched.
    """
    architecture = replace(find_architecture(name), contrast=contrast, signs=signs)
    if len(signs) > 1 and (
        contrast is not None or not architecture.timm_name or architecture.recurrent
    ):
        raise UserError("weights_mismatch", f"{architecture.title} can look for one sign only.")
    if textures and not (
        "efficientnet" in (architecture.timm_name or "") and not architecture.recurrent
    ):
        raise UserError("weights_mismatch", f"{architecture.title} cannot have a texture head.")
    if side is not None:
        architecture = replace(architecture, side=side)
    if architecture.timm_name is None:
        return Network(architecture, PlainCNN())
    try:
        backbone = timm.create_model(
            architecture.timm_name, pretrained=pretrained, drop_rate=dropout,
            num_classes=0 if architecture.recurrent else len(signs),
        )  # fmt: skip
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise UserError(
            "no_network",
            f"The ImageNet weights of {architecture.title} could not be fetched: {error}. "
            "Train from scratch with --start scratch, or connect to the network.",
        ) from error
    if architecture.recurrent:
        return SequenceNetwork(architecture, backbone, backbone.num_features)  # type: ignore[arg-type]
    _reset_head(backbone)
    network = Network(architecture, backbone)
    if textures:
        network.add_texture_head(textures)
    return network


def fold_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution registered just before it, in place.

    The outputs stay the same and take a tenth less time. For networks that are not trained further.
    """
    before: nn.Module | None = None
    for name, layer in module.named_children():
        if isinstance(before, nn.Conv2d) and isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            before.weight, before.bias = fuse_conv_bn_weights(
                before.weight, before.bias, layer.running_mean, layer.running_var,
                layer.eps, layer.weight, layer.bias,
            )  # fmt: skip
            # timm's norms bring their activation with them.
            setattr(module, name, getattr(layer, "act", nn.Identity()))
        else:
            fold_norms(layer)
        before = layer


def _reset_head(backbone: nn.Module) -> None:
    """Let logits start near zero: with one output, some of timm's heads start at 10."""
    head = backbone.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)


def load_imagenet_file(network: Network, path: Path) -> None:
    """Load an ImageNet checkpoint whose tensors have other names but the same order.

    The last layer, which has a thousand classes there, is not loaded.
    """
    given = torch.load(path, map_location="cpu", weights_only=True)
    own = network.backbone.state_dict()
    if len(given) != len(own):
        raise UserError("weights_mismatch", f"{path} is not made for {network.architecture.title}.")
    mapped = {
        name: theirs
        for (name, ours), theirs in zip(own.items(), given.values(), strict=True)
        if ours.shape == theirs.shape
    }
    if len(own) - len(mapped) > 2:
        raise UserError("weights_mismatch", f"{path} is not made for {network.architecture.title}.")
    network.backbone.load_state_dict(mapped, strict=False)
