"""Every sentence that the app shows, in one place; and those that are made of a scan's numbers."""

from collections.abc import Sequence

from detector.records import LABEL_TEXT, Label, Scan, show_probability
from detector.verdict import FEWEST_FACES, count_above

TITLE = "Unmask"
LABELS: dict[str, dict[str, str]] = {
    "en": {
        "tagline": "Does a face in this clip show signs of manipulation?",
        "clip": "Clip",
        "picture": "Picture",
        "drop": "Drop a clip here, or record one",
        "drop_picture": "Drop a picture here",
        "check": "Check",
        "cancel": "Cancel",
        "settings": "Settings",
        "detector": "Detector",
        "frame_count": "Key frames looked at",
        "examples": "Example clips",
        "over_time": "## Over time\nChoose a point to see that frame and its face.",
        "key_frame": "Key frame",
        "looked": "Where did the network look?",
        "face_and_map": "The face, and the map over it",
        "opacity": "Opacity of the map",
        "key_frames": "## Key frames",
        "holds": "## Does it hold?",
        "stress": "Stress-test this clip",
        "take_away": "## To take away",
        "sentence": "A sentence for the article",
        "files": "Report (JSON and page) and captions",
        "about": "About: what it can and cannot tell",
    },
    "de": {
        "tagline": "Zeigt ein Gesicht in diesem Clip Spuren von Manipulation?",
        "clip": "Clip",
        "picture": "Bild",
        "drop": "Clip hier ablegen oder aufnehmen",
        "drop_picture": "Bild hier ablegen",
        "check": "Prüfen",
        "cancel": "Abbrechen",
        "settings": "Einstellungen",
        "detector": "Detektor",
        "frame_count": "Anzahl der Schlüsselbilder",
        "examples": "Beispielclips",
        "over_time": "## Im Verlauf\nEin Punkt zeigt das Bild und sein Gesicht.",
        "key_frame": "Schlüsselbild",
        "looked": "Wohin hat das Netz geschaut?",
        "face_and_map": "Das Gesicht und die Karte darüber",
        "opacity": "Deckkraft der Karte",
        "key_frames": "## Schlüsselbilder",
        "holds": "## Hält das Ergebnis?",
        "stress": "Diesen Clip einem Belastungstest unterziehen",
        "take_away": "## Zum Mitnehmen",
        "sentence": "Ein Satz für den Artikel (englisch)",
        "files": "Bericht (JSON und Seite) und Untertitel",
        "about": "Was es sagen kann und was nicht",
    },
    "es": {
        "tagline": "¿Muestra una cara de este vídeo señales de manipulación?",
        "clip": "Vídeo",
        "picture": "Imagen",
        "drop": "Suelta aquí un vídeo o graba uno",
        "drop_picture": "Suelta aquí una imagen",
        "check": "Comprobar",
        "cancel": "Cancelar",
        "settings": "Ajustes",
        "detector": "Detector",
        "frame_count": "Fotogramas clave examinados",
        "examples": "Vídeos de ejemplo",
        "over_time": "## A lo largo del tiempo\nElige un punto para ver ese fotograma y su cara.",
        "key_frame": "Fotograma clave",
        "looked": "¿Dónde miró la red?",
        "face_and_map": "La cara, y el mapa sobre ella",
        "opacity": "Opacidad del mapa",
        "key_frames": "## Fotogramas clave",
        "holds": "## ¿Se sostiene?",
        "stress": "Someter este vídeo a una prueba de resistencia",
        "take_away": "## Para llevar",
        "sentence": "Una frase para el artículo (en inglés)",
        "files": "Informe (JSON y página) y subtítulos",
        "about": "Qué puede decir y qué no",
    },
    "fr": {
        "tagline": "Un visage de cette vidéo montre-t-il des signes de manipulation ?",
        "clip": "Vidéo",
        "picture": "Image",
        "drop": "Déposez une vidéo ici, ou enregistrez-en une",
        "drop_picture": "Déposez une image ici",
        "check": "Vérifier",
        "cancel": "Annuler",
        "settings": "Réglages",
        "detector": "Détecteur",
        "frame_count": "Images clés examinées",
        "examples": "Vidéos d'exemple",
        "over_time": "## Au fil du temps\nChoisissez un point pour voir cette image et son visage.",
        "key_frame": "Image clé",
        "looked": "Où le réseau a-t-il regardé ?",
        "face_and_map": "Le visage, et la carte par-dessus",
        "opacity": "Opacité de la carte",
        "key_frames": "## Images clés",
        "holds": "## Est-ce solide ?",
        "stress": "Mettre cette vidéo à l'épreuve",
        "take_away": "## À emporter",
        "sentence": "Une phrase pour l'article (en anglais)",
        "files": "Rapport (JSON et page) et sous-titres",
        "about": "Ce qu'il peut dire, et ce qu'il ne peut pas",
    },
}
"""What stands on the page whatever the clip, by language; the browser's own decides. Sentences that
are made of a scan's numbers are English."""
EMPTY = (
    "Drop a clip and press Check. Nothing leaves this machine: the file is looked at here and "
    "deleted afterwards."
)
MISSING = "Not to be chosen, for want of weights: python -m detector train makes them."
SYMBOLS = {
    Label.MANIPULATED: "▲", Label.NO_SIGNS: "●", Label.INCONCLUSIVE: "◆", Label.NO_FACE: "○",
}  # fmt: skip
MEANING = {
    Label.MANIPULATED: (
        "The network sees traces that forgeries leave. That is evidence, not proof: look for the "
        "original, and ask a second expert before you publish."
    ),
    Label.NO_SIGNS: (
        "No traces were found. That does not make the clip genuine: new methods and strong "
        "compression leave none that this network knows."
    ),
    Label.INCONCLUSIVE: (
        "The network cannot tell. An original file, a longer part, or a larger face may help."
    ),
    Label.NO_FACE: "Without a face there is nothing that this network could judge.",
}
ABOUT = """
### What it can tell
A convolutional network looks at faces in the clip's key frames for the traces that pasting,
re-enacting and re-drawing a face leave: seams, mismatched sharpness and colour, missing sensor
noise, grids left by a generator's last layers. It gives a probability with its interval and
abstains between two thresholds that were set on labelled clips.

### What it cannot tell
It does not hear voices, does not compare lips with speech, and does not judge scenes, bodies or
captions. Faces wholly drawn by a generative model are its weak side, and strong compression washes
traces out. It never calls a clip real.

### Measured
{figures}

The clips are few, so the intervals are wide; the model card in `weights/` says where they come
from.

### Privacy
Files are looked at on the machine that runs the app and deleted after {hours} at the latest, or
when the app ends. No run history, no analytics, no fonts or scripts from elsewhere; it works with
the cable out.

### How to cite
Unmask, an explainable deepfake detector for video, grown out of "Unmasking Deepfake Faces from
Videos Using an Explainable Cost-Sensitive Deep Learning Approach".
"""


def working(stage: str, spent: float, fraction: float) -> str:
    """What is being done, and once that can be guessed, how long it will take."""
    if spent < 1 or not 0.05 < fraction < 1:
        return stage
    return f"{stage}, about {spent * (1 - fraction) / fraction:.0f} s left"


def summary(found: Scan) -> str:
    """What the verdict rests on."""
    judged = sum(len(p.scores) for p in found.people)
    people = len(found.people)
    if not people:
        return f"{len(found.key_frames)} frames were looked at."
    who = "one person" if people == 1 else f"{people} people"
    return f"It rests on {judged} faces of {who} in {len(found.key_frames)} frames."


def natural_frequency(found: Scan) -> str:
    """How rare such a score is among genuine clips; empty where that is not known."""
    probability = found.verdict.probability
    if probability is None or not found.calibration.real_logits:
        return ""
    above, total = count_above(probability, found.calibration)
    return f"Of {total} genuine test clips, {above} scored this high or higher."


def scope(found: Scan) -> str:
    """What was not checked."""
    seen = {f.frame_index for p in found.people for f in p.person.faces}
    without = sum(k.index not in seen for k in found.key_frames)
    parts = ["Not checked: voice, lip movement against speech, the scene, the body."]
    if without:
        share = without / len(found.key_frames)
        seconds = share * found.video.duration
        if seconds >= 0.5:
            parts.append(f"No face was seen in about {seconds:.0f} s of the clip.")
        else:
            parts.append(f"No face was seen in {without} of {len(found.key_frames)} frames.")
    return " ".join(parts)


def remedy(found: Scan) -> str:
    """What would help, when nothing could be decided."""
    if found.verdict.label is not Label.INCONCLUSIVE:
        return ""
    faces = [f for p in found.people for f in p.person.faces]
    widths = sorted(f.box[2] - f.box[0] for f in faces)
    if widths and widths[len(widths) // 2] < 80:
        middle = widths[len(widths) // 2]
        return f"Most faces are only {middle} pixels wide: ask for the original, or a closer shot."
    if sum(len(p.scores) for p in found.people) < FEWEST_FACES:
        return "Very few faces could be judged: a longer clip would help."
    return "Ask for the original file: every re-upload washes traces out."


def sentence(found: Scan, name: str) -> str:
    """A sentence to copy for an article."""
    verdict = found.verdict
    text = LABEL_TEXT[verdict.label].lower()
    if verdict.probability is None or verdict.interval is None:
        return f"The detector Unmask, applied to {name}: {text}."
    shown, low, high = map(show_probability, (verdict.probability, *verdict.interval))
    return (
        f"The detector Unmask ({found.model.name}) gives {name} a probability of manipulation of "
        f"{shown} (95 % interval {low} to {high}; {text}). "
        f"{natural_frequency(found)} It judges faces only and can err."
    )


def captions(found: Scan) -> str:
    """The scores as WebVTT, to lie under a player."""
    points = sorted(
        (s.face.time, p.person.id, s.probability) for p in found.people for s in p.scores
    )
    times = sorted({t for t, _, _ in points})
    lines = ["WEBVTT", ""]
    for number, start in enumerate(times):
        end = times[number + 1] if number + 1 < len(times) else start + 1.0
        said = ", ".join(
            f"person {who}: {show_probability(p, '.2f')}" for t, who, p in points if t == start
        )
        lines += [f"{_clock(start)} --> {_clock(end)}", said, ""]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:06.3f}"


def figures_as_text(figures: dict[str, object]) -> str:
    """The checkpoint's own figures as a list."""
    lines = []
    for name, value in figures.items():
        if name.startswith("video AUC") and isinstance(value, Sequence):
            lines.append(f"- {name}: {value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})")
        elif isinstance(value, dict) and "of" in value:
            low, high = value["interval"]
            lines.append(f"- {name}: {value['count']} of {value['of']} ({low:.0%} to {high:.0%})")
    return "\n".join(lines) or "- not measured"
