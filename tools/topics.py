"""Write `topics.md` and `docs/asyncapi.json` from the contract.

python tools/topics.py            write both
python tools/topics.py --check    exit 1 and name the files that are stale
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from fleet_core.contract.asyncapi import render_asyncapi  # noqa: E402
from fleet_core.contract.document import render_topics  # noqa: E402

DOCUMENTS = {"topics.md": render_topics, "docs/asyncapi.json": render_asyncapi}


def stale(repository: Path = REPOSITORY) -> list[str]:
    """The documents that are missing or not what the contract says."""
    return [
        name
        for name, render in DOCUMENTS.items()
        if not (repository / name).is_file()
        or (repository / name).read_text(encoding="utf-8") != render()
    ]


def write(repository: Path = REPOSITORY) -> None:
    """Bring every document up to date."""
    for name, render in DOCUMENTS.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_text(render(), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    if list(arguments) not in ([], ["--check"]):
        sys.stderr.write(__doc__ or "")
        return 2
    if not arguments:
        write()
        return 0
    names = stale()
    for name in names:
        print(f"{name} is stale: run `make topics`", file=sys.stderr)
    return 1 if names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
