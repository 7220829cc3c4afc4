"""The named recipes: what a checkpoint is trained on and how. `runs` carries them out."""

from dataclasses import dataclass, field, replace
from typing import Any

from detector.errors import UserError
from detector.faces import CROP_MARGIN
from detector.records import SIGNS
from detector.training.decoders import DECODERS
from detector.training.forgery import KINDS
from detector.training.mixture import Shares
from detector.training.train import TrainSettings

FAKE_SHARES = 50, 80, 90, 95  # % of the training split, in the study of imbalance


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made."""

    title: str
    settings: TrainSettings
    side: int | None = None
    """Side of the network's input in pixels; None takes the architecture's own."""
    contrast: float | None = None
    """Weight of the surround logit, subtracted from the centre logit; see
    `architectures.Architecture`."""
    labelled: bool = False
    """Learn from the labelled crops of an index; otherwise from forgeries of real faces."""
    kinds: dict[str, float] = field(default_factory=lambda: dict(KINDS))
    """Kind of forgery -> its share."""
    decoders: int = len(DECODERS)
    """How many autoencoders to train for the synthetic kind."""
    degrade: bool = True
    """Put real and forged faces through simulated cameras, editors and encoders."""
    encoded: bool = True
    """Video encoders are among those degradations."""
    weighted: bool = True
    """Class weights from the label distribution, as in the paper."""
    fakes: float | None = None
    """Reduce the training split to this share of fakes. The number of crops is the same for every
    share of `FAKE_SHARES`."""
    oversampled: bool = False
    """Draw both classes equally often, in place of class weights."""
    frames: int = 0
    """Faces of a clip in one training sequence, for recurrent networks; 0 for single crops."""
    learned_side: int | None = None
    """Side of the training pictures in pixels, if smaller than the input. Training is then cheaper;
    with wider crop margins the faces come out about as large as at full size."""
    mixed: Shares | None = None
    """What pairs are made of, for training on labelled faces of many sources plus forgeries."""
    margin: float = CROP_MARGIN
    """Crop margin: share of the face's box that is shown around it."""
    signs: tuple[str, ...] = SIGNS[:1]
    """The kinds of traces that the network tells apart."""
    reproduces: str = ""
    """The published result that the recipe should reproduce."""


def _from_faces(architecture: str, side: int | None = None, **changes: Any) -> Recipe:
    defaults = {"real_target_logit": -2.0}
    return Recipe(
        f"{architecture} on forgeries of real faces",
        TrainSettings(architecture, **defaults | changes),
        side,
        weighted=False,
    )


def _from_labels(architecture: str, reproduces: str, **changes: Any) -> Recipe:
    """The published hyperparameters, where they are known: Adam at 1e-4, batches of 32."""
    defaults = {"steps": 10_000, "learning_rate": 1e-4, "ema_decay": 0.99, "label_smoothing": 0.0}
    return Recipe(
        f"{architecture} on labelled faces",
        TrainSettings(architecture, **defaults | changes),
        labelled=True,
        reproduces=reproduces,
    )


def _distilled(architecture: str, steps: int, **changes: Any) -> Recipe:
    """For `--teacher` and random weights: small pictures, and a high rate within few steps."""
    settings = TrainSettings(
        architecture, steps=steps, batch=16, learning_rate=1e-3, ema_decay=0.95, dropout=0.1,
        label_smoothing=0.0, workers=0, validate_every=steps,
    )  # fmt: skip
    return Recipe(
        f"{architecture} on labelled faces at 96 pixels, with --teacher",
        replace(settings, **changes),
        side=96,
        labelled=True,
        margin=0.1,
    )


def _mixed(
    architecture: str, side: int, learned_side: int, frozen: str, steps: int = 3000
) -> Recipe:
    """Labelled faces of many sources, forgeries made on the fly, and a logit for each sign."""
    settings = TrainSettings(
        architecture, steps=steps, learning_rate=3e-4, dropout=0.1, label_smoothing=0.03,
        pair_weight=0.5, constant_lr=True, validate_every=200, frozen=frozen,
    )  # fmt: skip
    return Recipe(
        f"{architecture} on labelled faces of many sources and forgeries of real ones",
        settings,
        side=side,
        learned_side=learned_side,
        kinds={"self": 0.4, "swap": 0.3, "bottleneck": 0.15, "part": 0.15},
        decoders=0,
        weighted=False,
        mixed=Shares(),
        margin=0.3,
        signs=SIGNS,
    )


def _studies() -> dict[str, Recipe]:
    """One recipe for each question that the paper left open, to compare with `paper-xception`."""
    open_question = "nothing: a question the paper left open"
    weighted = _from_labels("xception", open_question)
    plain = replace(weighted, weighted=False)
    studies = {
        "study-unweighted": plain,
        "study-oversampled": replace(plain, oversampled=True),
        "study-focal": replace(plain, settings=replace(plain.settings, focal=2.0)),
    }
    for share in FAKE_SHARES:
        studies[f"study-fakes-{share}"] = replace(weighted, fakes=share / 100)
        studies[f"study-fakes-{share}-unweighted"] = replace(plain, fakes=share / 100)
    return studies


DISTILLED = {
    "xception": 210, "inception_resnet_v2": 180, "efficientnetv2_s": 250, "efficientnetv2_m": 130,
    "densenet201": 210, "inception_v3": 320, "resnet50": 240,
}  # fmt: skip
"""Steps that take one core about seven minutes."""
EMBEDDED: dict[str, Any] = {"steps": 6000, "learning_rate": 4e-4, "ema_decay": 0.998}
PAPER = "cost-sensitive training on key-frame faces: "
TEST: dict[str, Any] = {
    "steps": 6, "batch": 4, "validate_every": 3, "workers": 0, "save_every": 0.0,
}  # fmt: skip

RECIPES: dict[str, Recipe] = {
    "embedded": _from_faces("efficientnet_lite0", 256, **EMBEDDED),
    "embedded-cost-sensitive": replace(
        _from_faces("efficientnet_lite0", 256, **EMBEDDED, real_target_logit=None), weighted=True
    ),
    "larger": replace(
        _from_faces(
            "efficientnet_lite2", 256, steps=5000, learning_rate=4e-4, dropout=0.0,
            per_cell_loss=True, constant_lr=True, frozen=r"backbone\.(conv_stem|bn1|blocks\.0\.)",
        ),
        contrast=0.75,
    ),
    "mixed": _mixed(
        "efficientnet_lite2", 224, 192, r"backbone\.(conv_stem|bn1|blocks\.[012]\.)"
    ),
    "mixed-inception_v3": _mixed(
        "inception_v3", 150, 128, r"backbone\.(Conv2d|Mixed_5)", steps=1200
    ),
    "xception": _from_faces("xception", 224),
    "inception_resnet_v2": _from_faces("inception_resnet_v2", 224),
    "efficientnetv2_s": _from_faces("efficientnetv2_s", 224),
    "efficientnetv2_m": _from_faces("efficientnetv2_m", 224),
    "efficientnet_b4": _from_faces("efficientnet_b4", 224),
    "plain_cnn": _from_faces("plain_cnn", 128, learning_rate=1e-3),
    "inception_v3_rnn": replace(
        _from_faces("inception_v3_rnn", 224, batch=64), frames=8
    ),
    "paper-xception": _from_labels(
        "xception", PAPER + "98 % on Celeb-DF v2, 93 % on FaceForensics++"
    ),
    "paper-inception_resnet_v2": _from_labels(
        "inception_resnet_v2", PAPER + "94 % on FaceForensics++"
    ),
    "paper-efficientnetv2_s": _from_labels("efficientnetv2_s", PAPER + "92 % on FaceForensics++"),
    "paper-efficientnetv2_m": _from_labels("efficientnetv2_m", PAPER + "88 % on FaceForensics++"),
    "densenet201-last-block": _from_labels(
        "densenet201", "fine-tuned from the last dense block: 85.8 %",
        frozen=r"backbone\.features\.(conv0|norm0|denseblock[123]|transition)",
    ),
    "densenet201": _from_labels("densenet201", "fine-tuned as a whole: 86.7 %"),
    "inception_v3": _from_labels("inception_v3", "fine-tuned: 86.9 %; with DenseNet201, 88.8 %"),
    "faces-plain_cnn": _from_labels(
        "plain_cnn", "deepfake_faces, validation: 50 %", learning_rate=1e-3
    ),
    "faces-xception": _from_labels("xception", "deepfake_faces, validation: 82 %"),
    **{
        f"faces-{name}": replace(
            _from_labels(
                name, "nothing: compared with the two above", steps=3000, learning_rate=3e-4,
                dropout=0.1, constant_lr=True,
                frozen=r"backbone\.(conv_stem|bn1|blocks\.[012]\.)",
            ),
            side=160,
        )
        for name in ("efficientnet_lite0", "efficientnet_lite2")
    },
    "mtcnn-resnet50": _from_labels("resnet50", "MTCNN crops of Celeb-DF and DFDC, 8:1:1"),
    "dfdc-inception_resnet_v2": _from_labels(
        "inception_resnet_v2", "all frames of the DFDC sample, validation: 90.9 %"
    ),
    "celebdf-inception_v3_rnn": replace(
        _from_labels(
            "inception_v3_rnn", "recurrent network on Celeb-DF v2 videos: 66 %",
            batch=128, frozen=r"^backbone\.", learning_rate=1e-3,
        ),
        frames=16,
    ),
    **{f"distilled-{name}": _distilled(name, steps) for name, steps in DISTILLED.items()},
    "distilled-inception_v3_rnn": replace(
        _distilled("inception_v3_rnn", 200, batch=56, frozen=r"^backbone\."), frames=7
    ),
    **_studies(),
    "test": replace(_from_faces("test_efficientnet", **TEST), decoders=0),
    "test-located": replace(
        _from_faces("test_efficientnet", **TEST, per_cell_loss=True), decoders=0
    ),
    "test-clips": replace(
        _from_faces("test_rnn", **{**TEST, "batch": 12}), decoders=0, frames=3
    ),
    "test-mixed": replace(
        _from_faces("test_efficientnet", **TEST, real_target_logit=None),
        decoders=0, mixed=Shares(), margin=0.3, signs=SIGNS,
    ),
    "test-labelled": _from_labels("test_efficientnet", "nothing: it takes seconds", **TEST),
    "test-sequence": replace(
        _from_labels("test_rnn", "nothing: it takes seconds", **{**TEST, "batch": 12}), frames=4
    ),
}  # fmt: skip
"""`mixed` made the checkpoint in weights/. `larger` and `embedded` learn from portraits alone,
`embedded-cost-sensitive` from the same forgeries with the paper's loss. The recipes whose names
begin with `test` take seconds."""


def find_recipe(name: str) -> Recipe:
    """A recipe by its name; raises UserError `unknown_recipe`."""
    if name not in RECIPES:
        raise UserError(
            "unknown_recipe", f"There is no recipe {name!r}. Known are: {', '.join(RECIPES)}."
        )
    return RECIPES[name]
