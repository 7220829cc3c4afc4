"""Pictures to look at: a run's curves, and a contact sheet of forgeries."""

import re
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from detector.training.forgery import Forger
from detector.training.portraits import Portrait


def draw_log(log: Sequence[dict[str, float]]) -> Figure:
    """Training loss, validation AUC and validation accuracy over the steps."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    loss, areas, accuracies = figure.subplots(1, 3)
    steps = [row["step"] for row in log]
    loss.plot(steps, [row["loss"] for row in log])
    loss.set(title="Training loss", xlabel="step")
    for name in log[-1]:
        if re.match("held|val", name):
            axes = accuracies if name.endswith("_accuracy") else areas
            axes.plot(steps, [row[name] for row in log], label=name)
    for axes, title in ((areas, "AUC, validation"), (accuracies, "Accuracy, validation")):
        axes.set(title=title, xlabel="step")
        if axes.lines:
            axes.legend(fontsize="small")
        else:
            axes.set_axis_off()
    return figure


def draw_sheet(portraits: Sequence[Portrait], seed: int = 0, columns: int = 8) -> np.ndarray:
    """A contact sheet of forgeries.

    For every kind three rows: real crops, forged crops, masks. The last two rows are the frames of
    a genuine clip and of its forgery.
    """
    rows = []
    for kind in Forger(portraits).kinds:
        forger = Forger(portraits, kinds={kind: 1.0})
        pairs = [forger.draw((seed, number)) for number in range(columns)]
        rows.append(np.hstack([real.image for real, _ in pairs]))
        rows.append(np.hstack([fake.image for _, fake in pairs]))
        masks = np.hstack([fake.mask for _, fake in pairs])
        rows.append(np.repeat((masks * 255).astype(np.uint8)[..., None], 3, axis=2))
    forger = Forger(portraits)
    for clip in forger.clip_pair(forger.choose((seed,)), (seed,), columns):
        rows.append(np.hstack([sample.image for sample in clip]))
    return np.vstack(rows)
