"""A scan <-> JSON, and -> text. Imports records only: no torch, no decoder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from detector.errors import UserError, printable
from detector.records import (
    LABEL_TEXT,
    SIGN_TEXT,
    FaceScore,
    Label,
    PersonVerdict,
    Scan,
    Verdict,
    show_probability,
)

SCHEMA = 1
TOLERANCE = 0.03  # probability: what rounding changes, as between processors with bf16 and without

TOLERANCES = {
    "probability": TOLERANCE, "interval": TOLERANCE, "signs": TOLERANCE, "difference": 0.05,
    "box": 2, "regions": 0.05, "trust": 0.1,
}  # fmt: skip
"""The largest allowed difference from a fresh scan, by name; all other values must be equal.

Between bf16 and fp32 the trust figures of three Grad-CAM maps differed by at most 0.07 (agreement).
"""

UNCOMPARED = {
    ("file",), ("made",), ("timings",), ("model", "source"), ("settings", "weights"),
    ("settings", "device"), ("heatmaps",),
}  # fmt: skip
"""Parts that are not compared: where, when and how it was scanned; heatmaps, compared apart."""

JSON_TAGS = '<script type="application/json" id="report">', "</script>"
"""The tags around the JSON that is embedded in a report's page."""


def to_json(scan: Scan, *, name: str | None = None) -> dict[str, Any]:
    """Convert a scan to the JSON of the command line, the app and the API.

    Args:
        scan: the scan.
        name: replaces the file's name, for example if several files have the same one.
    """
    video = scan.video
    return {
        "schema": SCHEMA,
        "file": name or printable(Path(video.path).name),
        "sha256": scan.provenance.sha256,
        "verdict": str(scan.verdict.label),
        "probability": _round(scan.verdict.probability),
        "interval": _interval(scan.verdict.interval),
        "signs": _signs(scan.verdict.signs),
        "person": scan.verdict.person,
        "reasons": list(scan.verdict.reasons),
        "people": [_person(p) for p in scan.people],
        "key_frames": [
            {"index": k.index, "time": _round(k.time), "difference": _round(k.difference)}
            for k in scan.key_frames
        ],
        "video": {
            "width": video.width,
            "height": video.height,
            "fps": _round(float(video.rate)),
            "duration": _round(video.duration),
            "frames": video.frames,
            "codec": video.codec,
            "rotation": video.rotation,
        },
        "model": {
            "name": scan.model.name,
            "source": scan.model.source,
            "sha256": scan.model.sha256,
            "calibrated": scan.model.calibrated,
            "thresholds": {
                "lower": _round(scan.calibration.lower),
                "upper": _round(scan.calibration.upper),
            },
        },
        "provenance": {
            "content_credentials": scan.provenance.content_credentials,
            "signer": scan.provenance.signer,
            "container": dict(scan.provenance.container),
            "statements": [asdict(s) for s in scan.provenance.statements],
        },
        "settings": dict(scan.settings),
        "timings": {name: _round(seconds, 3) for name, seconds in scan.timings.items()},
        "warnings": list(scan.warnings),
    }


def error_json(file: str, error: UserError) -> dict[str, Any]:
    """The JSON of a file that could not be scanned."""
    return {
        "schema": SCHEMA,
        "file": printable(file),
        "error": {"code": error.code, "message": error.message},
    }


def _round(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(float(value), digits)


def _interval(interval: tuple[float, float] | None) -> list[float | None] | None:
    return None if interval is None else [_round(v) for v in interval]


def _person(person: PersonVerdict) -> dict[str, Any]:
    scored = {id(s.face): s for s in person.scores}
    return {
        "id": person.person.id,
        "verdict": str(person.verdict.label),
        "probability": _round(person.verdict.probability),
        "interval": _interval(person.verdict.interval),
        "signs": _signs(person.verdict.signs),
        "reasons": list(person.verdict.reasons),
        "faces": [
            {
                "index": face.frame_index,
                "time": _round(face.time),
                "box": list(face.box),
                **_face_figures(scored.get(id(face))),
                **({"unfit": face.unfit} if face.unfit else {}),
            }
            for face in person.person.faces
        ],
    }


def _face_figures(score: FaceScore | None) -> dict[str, Any]:
    """A face's probability and signs; empty for a face that could not be judged."""
    if score is None:
        return {"probability": None, "signs": {}}
    return {"probability": _round(score.probability), "signs": _signs(score.signs)}


def _signs(signs: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _round(value) for name, value in signs.items()}


def read_report(path: Path) -> dict[str, Any]:
    """Read a report: its JSON, or the page in which the JSON is embedded.

    Raises:
        UserError: `missing_file`, `bad_report`.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() in (".html", ".htm"):
            text = text.rpartition(JSON_TAGS[0])[2].partition(JSON_TAGS[1])[0]
        report = json.loads(text, parse_int=_small)
    except FileNotFoundError:
        raise UserError("missing_file", f"There is no report {path}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError("bad_report", f"{path} is no report: {error}.") from error
    needed = {"schema", "sha256", "verdict", "probability", "model", "settings"}
    if not isinstance(report, dict) or not needed <= set(report) or report["schema"] != SCHEMA:
        raise UserError(
            "bad_report", f"{path} is no report of this program, or of another version."
        )
    if not isinstance(report["settings"], dict) or not isinstance(report["model"], dict):
        raise UserError(
            "bad_report", f"{path} is no report of this program: its settings or model are damaged."
        )
    if "made" in report:
        _check_made(report["made"], path)
    return report


def _check_made(made: Any, path: Path) -> None:
    """Raise UserError `bad_report` unless the part about the report's making is complete."""
    try:
        told = [made[name] for name in ("when", "version", "language", "note", "report")]
        if not all(isinstance(value, str) for value in [*told, made["maps"] or ""]):
            raise ValueError
        datetime.fromisoformat(made["when"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            "bad_report", f"{path} is no report of this program: the part `made` is damaged."
        ) from None


def as_reported(found: Scan, report: Mapping[str, Any]) -> Scan:
    """The scan with its figures replaced by those of a report, which are rounded."""
    return replace(
        found,
        verdict=_verdict_as_reported(found.verdict, report),
        people=tuple(
            _person_as_reported(person, told)
            for person, told in zip(found.people, report["people"], strict=True)
        ),
        model=replace(found.model, source=str(report["model"]["source"])),
        settings=dict(report["settings"]),
    )


def _verdict_as_reported(verdict: Verdict, told: Mapping[str, Any]) -> Verdict:
    low_and_high = told["interval"]
    return replace(
        verdict,
        probability=told["probability"],
        interval=None if low_and_high is None else (low_and_high[0], low_and_high[1]),
        signs=dict(told["signs"]),
    )


def _person_as_reported(person: PersonVerdict, told: Mapping[str, Any]) -> PersonVerdict:
    faces = zip(person.person.faces, told["faces"], strict=True)
    figures = {id(face): figures for face, figures in faces}
    scores = tuple(
        replace(
            score,
            probability=figures[id(score.face)]["probability"],
            signs=dict(figures[id(score.face)]["signs"]),
        )
        for score in person.scores
    )
    return replace(person, scores=scores, verdict=_verdict_as_reported(person.verdict, told))


def _small(digits: str) -> int:
    """Parse an integer; raises ValueError for one that no report contains."""
    if len(digits) > 20:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def compare(report: Mapping[str, Any], fresh: Mapping[str, Any]) -> list[str]:
    """Compare a report with the JSON of a fresh scan.

    Returns:
        A line for each difference; none if the scan confirms the report.
    """
    if report["sha256"] != fresh["sha256"]:
        return [f"the clip's content: {report['sha256']} then, {fresh['sha256']} now"]
    if report["model"].get("sha256") != fresh["model"]["sha256"]:
        return ["the network's weights are different"]
    return list(_differences((), report, fresh))


def compare_heatmaps(report: Mapping[str, Any], fresh: list[dict[str, Any]]) -> list[str]:
    """Return a line for each difference of a report's heatmap figures from fresh ones.

    The figures may differ a little, as between processors. If one lies at a limit, so may what they
    amount to, `reliable`: it must be the fresh one or follow from the report's own figures.
    """
    given = report.get("heatmaps", [])
    if len(given) == len(fresh):
        fresh = [_conclude_alike(told, now) for told, now in zip(given, fresh, strict=True)]
    return list(_differences(("heatmap",), given, fresh))


def _conclude_alike(told: Any, now: dict[str, Any]) -> dict[str, Any]:
    """Return fresh figures, with the report's `reliable` if its own figures imply it."""
    from detector.heatmaps.trust import is_reliable  # slow to import

    try:
        reliable = told["trust"]["reliable"]
        follows = reliable is is_reliable(told["trust"], pasted=told["sign"] == "pasted")
    except (KeyError, TypeError):  # a damaged report
        return now
    return {**now, "trust": {**now["trust"], "reliable": reliable}} if follows else now


def _differences(path: tuple[str, ...], then: Any, now: Any) -> Iterator[str]:
    """Yield a line for each difference of two JSON values; `path` leads to them in the report."""
    if path in UNCOMPARED:
        return
    if isinstance(then, dict) and isinstance(now, dict):
        for key in [*now, *(k for k in then if k not in now)]:
            inner = (*path, str(key))
            if inner not in UNCOMPARED and (key in then) != (key in now):
                yield f"{' '.join(inner)}: {'only then' if key in then else 'only now'}"
            elif key in then and key in now:
                yield from _differences(inner, then[key], now[key])
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for number, (one, other) in enumerate(zip(then, now, strict=True), 1):
            yield from _differences((*path, str(number)), one, other)
    elif not _agree(path, then, now):
        yield f"{' '.join(path)}: {_shorten(then)} then, {_shorten(now)} now"


def _agree(path: tuple[str, ...], then: Any, now: Any) -> bool:
    if type(then) in (int, float) and type(now) in (int, float):
        named = [part for part in path if not part.isdigit()]
        allowed = [TOLERANCES[part] for part in named if part in TOLERANCES]
        return abs(then - now) <= (allowed[-1] if allowed else 1e-9)
    return type(then) is type(now) and then == now


def _shorten(value: Any) -> str:
    """A JSON value as text of at most 80 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."


def describe_verdict(label: str, probability: float | None, interval: Any) -> str:
    """A verdict in one line."""
    text = LABEL_TEXT[Label(label)]
    if probability is None:
        return text
    shown, low, high = (show_probability(value, ".2f") for value in (probability, *interval))
    return f"{text} (probability {shown}, between {low} and {high})"


def describe_signs(signs: Mapping[str, float]) -> str:
    """The probability of each kind of traces, in words."""
    shown = [f"{SIGN_TEXT[name]} {show_probability(value, '.2f')}" for name, value in signs.items()]
    return f"Signs of {', of '.join(shown)}"


def to_text(report: Mapping[str, Any]) -> str:
    """The text that the command line prints for a report."""
    if "error" in report:
        return f"{report['file']}\n  {report['error']['message']} [{report['error']['code']}]"
    verdict = describe_verdict(report["verdict"], report["probability"], report["interval"])
    lines = [report["file"], f"  {verdict}"]
    if len(report.get("signs", {})) > 1:
        lines.append(f"  {describe_signs(report['signs'])}")
    lines += [f"  {reason}" for reason in report["reasons"]]
    if not report.get("stress", {}).get("holds", True):
        other = LABEL_TEXT[Label(report["stress"]["verdict"])]
        lines.append(f"  It does not hold when the file is altered: {other}.")
    if len(report["people"]) > 1:
        for person in report["people"]:
            times = [face["time"] for face in person["faces"]]
            answer = describe_verdict(person["verdict"], person["probability"], person["interval"])
            lines.append(
                f"  person {person['id']}, {len(times)} faces from {min(times):.1f} s "
                f"to {max(times):.1f} s: {answer}"
            )
    lines += [f"  Note: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)
