"""weights/catalogue.json: the models by name, with file, hash and Hub repository of each."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from detector.assets import find_folder
from detector.errors import UserError

FOLDER = find_folder("weights")


@dataclass(frozen=True)
class Entry:
    """A model in the catalogue."""

    name: str
    architecture: str
    title: str
    file: str | None = None
    sha256: str | None = None
    repository: str | None = None
    revision: str | None = None
    members: tuple[str, ...] = ()
    """The models that an ensemble averages."""
    recipe: str = ""
    """The recipe that trains it; empty if it has the model's name."""


@dataclass(frozen=True)
class Catalogue:
    """The content of weights/catalogue.json."""

    default: str
    entries: dict[str, Entry]
    folder: Path

    def find(self, name: str) -> Entry:
        """A model's entry; `default` names the catalogue's default model.

        Raises:
            UserError: `unknown_model`.
        """
        wanted = self.default if name == "default" else name
        if wanted not in self.entries:
            known = ", ".join(self.entries)
            raise UserError("unknown_model", f"There is no model {name!r}. Known are: {known}.")
        return self.entries[wanted]


@cache
def read_catalogue(folder: Path = FOLDER) -> Catalogue:
    """Read catalogue.json of a folder of weights."""
    stored = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))
    entries = {
        name: Entry(
            name=name,
            architecture=values.get("architecture", name),
            title=values["title"],
            file=values.get("file"),
            sha256=values.get("sha256"),
            repository=values.get("repository"),
            revision=values.get("revision"),
            members=tuple(values.get("members", ())),
            recipe=values.get("recipe", name),
        )
        for name, values in stored["models"].items()
    }
    return Catalogue(stored["default"], entries, folder)


def how_to_get(entry: Entry) -> str:
    """The command that fetches or trains a model's weights; for an ensemble, its members.

    DIR is what the recipe learns from: `train --help` says what that can be.
    """
    if entry.members:
        return " + ".join(entry.members)
    if entry.repository:
        return f"python -m detector weights download {entry.name}"
    return f"python -m detector train {entry.recipe or entry.name} --data DIR --out RUN"
