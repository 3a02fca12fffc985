"""Writing the OpenAPI document into the repository: `python -m gsd_tasks.http.export`, or `make openapi`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gsd_tasks.http.app import create_app
from gsd_tasks.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

EXPORTED: Final = Path("docs/openapi.json")


def export(path: Path) -> None:
    """Write the document as it is in the repository."""
    path.write_text(rendered(create_app(Settings())), encoding="utf-8")


def rendered(app: FastAPI) -> str:
    """The document as text, the same from run to run."""
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    export(Path(sys.argv[1]) if len(sys.argv) > 1 else EXPORTED)
