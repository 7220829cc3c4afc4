"""Writes requirements-lock.txt: every package of requirements.txt and theirs, with hashes.

    .venv/bin/python .ci/lock.py

For Python 3.11 on Linux, x86-64: what a Space runs, and what CI tested. Install it with
`pip install --require-hashes -r requirements-lock.txt`.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASK = [
    sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
    "--report", "-", "-r", str(ROOT / "requirements.txt"),
]  # fmt: skip


def lock(report: dict) -> str:
    """The lines of the file, from pip's report."""
    lines = ["# Made by .ci/lock.py from requirements.txt: Python 3.11 on Linux, x86-64."]
    for package in sorted(report["install"], key=lambda p: p["metadata"]["name"].lower()):
        name, version = package["metadata"]["name"].lower(), package["metadata"]["version"]
        digest = package["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{digest}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    report = subprocess.run(ASK, capture_output=True, check=True, text=True).stdout
    (ROOT / "requirements-lock.txt").write_text(lock(json.loads(report)), encoding="utf-8")
