"""Name -> how to build a network, what it wants to see, which layer explains it.

The only importer of timm. Normalisation is part of the network, so it can be neither forgotten nor
done twice: every network takes RGB from 0 to 1 and gives one logit for each kind of traces that it
looks for: of a pasted face, or of a pasted and of a drawn one.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
from torch import nn

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
    """What timm calls it; None for a network of our own."""
    side: int
    """Side of the square input, pixels, unless a checkpoint says otherwise."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layer: str
    """The last layer with a spatial map: what the class activation maps are read from."""
    recurrent: int = 0
    """Width of the recurrent layer over a person's faces; 0 where each face is judged alone."""
    contrast: float | None = None
    """How much of the evidence around the face's middle is taken from that in it, if a checkpoint
    says so; otherwise all places count alike."""
    signs: tuple[str, ...] = SIGNS[:1]
    """The kinds of traces that the network tells from a genuine face, one logit each."""


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
    """The catalogue's entry, or a UserError that lists what there is."""
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
        """The last map, by the name that timm gives it."""
        return self.features(pictures)

    def get_classifier(self) -> nn.Module:
        """The last layer, by the name that timm gives it."""
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

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The largest logit of each picture, (n,): the strongest evidence of whatever kind."""
        return self.answer(pictures).amax(1)

    def answer(self, pictures: torch.Tensor) -> torch.Tensor:
        """The logits, (n, signs)."""
        if self.architecture.contrast is None:
            return self.features(pictures)
        return self.read(self.locate(pictures))[:, None]

    def features(self, pictures: torch.Tensor) -> torch.Tensor:
        """What the backbone makes of each picture by itself, (n, 1) or (n, features)."""
        return self.backbone((pictures - self.mean) / self.std)

    def locate(self, pictures: torch.Tensor) -> torch.Tensor:
        """The evidence place by place, (n, h, w), from which the logits are read."""
        last = self.backbone.forward_features((pictures - self.mean) / self.std)  # type: ignore[operator]
        head = self.backbone.get_classifier()  # type: ignore[operator]
        return torch.einsum("nchw,c->nhw", last, head.weight[0]) + head.bias[0]

    def read(self, maps: torch.Tensor) -> torch.Tensor:
        """The logits of maps of evidence.

        With a contrast, what lies around the face stands for its camera and encoder: what they
        leave everywhere is no evidence against the face.
        """
        contrast = self.architecture.contrast
        if contrast is None:
            return maps.mean((1, 2))
        _, height, width = maps.shape
        top, left = height // 4, width // 4
        middle = maps[:, top : height - top, left : width - left]
        around = maps.sum((1, 2)) - middle.sum((1, 2))
        places = max(1, height * width - middle[0].numel())
        return middle.mean((1, 2)) - contrast * around / places

    @property
    def in_sequence(self) -> bool:
        """Whether the pictures of a batch are one person's faces in order, judged together."""
        return False

    @property
    def explained_layer(self) -> nn.Module:
        """The layer that class activation maps are read from."""
        return self.backbone.get_submodule(self.architecture.layer)


class SequenceNetwork(Network):
    """A backbone's features of a person's faces, in order, under a recurrent layer.

    Every face gets a logit that knows the others; training sees their mean, so a face's share of
    the answer is its own logit. Frames without a fit face are left out: the recurrent layer passes
    over them.
    """

    def __init__(self, architecture: Architecture, backbone: nn.Module, features: int) -> None:
        super().__init__(architecture, backbone)
        width = architecture.recurrent
        self.recurrent = nn.GRU(features, width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.4)
        self.head = nn.Linear(2 * width, 1)

    @property
    def in_sequence(self) -> bool:
        """Always."""
        return True

    def forward(self, pictures: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """The logits of all pictures: one sequence, or several behind one another, by `lengths`."""
        features = self.features(pictures)
        if lengths is None:
            return self.judge(features[None])[0]
        parts = features.split(lengths.tolist())
        return torch.cat([self.judge(part[None])[0] for part in parts])

    def answer(self, pictures: torch.Tensor) -> torch.Tensor:
        """The logits of one person's pictures, (n, 1)."""
        return self(pictures)[:, None]

    def judge(self, features: torch.Tensor) -> torch.Tensor:
        """Sequences of features, (b, n, features) -> the logits of their pictures, (b, n)."""
        states, _ = self.recurrent(features)
        return self.head(self.drop(states)).squeeze(2)


class InContext(Network):
    """A sequence network as a function of one of its pictures, the others as they are.

    Its logit is the person's mean, so that what explains a single face explains this one too.
    """

    def __init__(self, network: SequenceNetwork, pictures: torch.Tensor, place: int) -> None:
        """`pictures` are all of the person's, in order; the one at `place` is the variable."""
        super().__init__(network.architecture, network.backbone)
        self.network, self.place = network, place
        with torch.no_grad():
            self.others = network.features(pictures)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Each picture in the place of the variable one: the person's logits, (n,)."""
        features = self.network.features(pictures)
        whole = self.others.to(features.dtype)[None].repeat(len(features), 1, 1)
        whole = torch.cat(
            [whole[:, : self.place], features[:, None], whole[:, self.place + 1 :]], dim=1
        )
        return self.network.judge(whole).mean(1)

    def answer(self, pictures: torch.Tensor) -> torch.Tensor:
        """The same as one column, (n, 1)."""
        return self(pictures)[:, None]


class OneSign(Network):
    """A network as it answers one of its questions: its logit is that sign's alone."""

    def __init__(self, network: Network, number: int) -> None:
        """`number` is that of the sign."""
        super().__init__(network.architecture, network.backbone)
        self.network, self.number = network, number

    def answer(self, pictures: torch.Tensor) -> torch.Tensor:
        """The sign's logits, (n, 1)."""
        return self.network.answer(pictures)[:, self.number, None]


def build_network(
    name: str,
    *,
    side: int | None = None,
    contrast: float | None = None,
    signs: tuple[str, ...] = SIGNS[:1],
    pretrained: bool = False,
    dropout: float = 0.0,
) -> Network:
    """A network with one output a sign, random, or with timm's ImageNet weights from the Hub."""
    architecture = replace(find_architecture(name), contrast=contrast, signs=signs)
    if len(signs) > 1 and (
        contrast is not None or not architecture.timm_name or architecture.recurrent
    ):
        raise UserError("weights_mismatch", f"{architecture.title} answers one question only.")
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
    _calm_head(backbone)
    return Network(architecture, backbone)


def _calm_head(backbone: nn.Module) -> None:
    """Start from logits near zero: with one output, some of timm's heads start at 10."""
    head = backbone.get_classifier()  # type: ignore[operator]
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)


def load_imagenet_file(network: Network, path: Path) -> None:
    """Fill a network from an ImageNet checkpoint whose tensors stand in the same order.

    The last layer, which tells a thousand classes apart, is left as it is.
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
