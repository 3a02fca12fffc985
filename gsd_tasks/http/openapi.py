"""The OpenAPI document: made from the routes, exported by `python -m gsd_tasks.http.openapi` to docs/openapi.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from gsd_tasks.http.documented import problem_schemas

if TYPE_CHECKING:
    from fastapi import FastAPI

EXPORTED: Final = Path("docs/openapi.json")


def describe(app: FastAPI) -> None:
    """Have the app's document be the one that is described here."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document_of(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def document_of(app: FastAPI) -> dict[str, Any]:
    """The framework's, with what it cannot know: the problems, and what is base64."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    schemas = document["components"]["schemas"]
    schemas |= problem_schemas()
    _base64(schemas["OutputRow"]["properties"]["raw"])
    for name in ("HTTPValidationError", "ValidationError"):
        # The framework's own words for what is a problem document here.
        schemas.pop(name, None)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def export(path: Path) -> None:
    """Write the document as it is in the repository."""
    from gsd_tasks.http.app import create_app
    from gsd_tasks.settings import Settings

    path.write_text(rendered(create_app(Settings())), encoding="utf-8")


def rendered(app: FastAPI) -> str:
    """The document as text, the same from run to run."""
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def _base64(schema: dict[str, Any]) -> None:
    for kind in schema["anyOf"]:
        if kind.pop("contentMediaType", None) is not None:
            kind["contentEncoding"] = "base64"


if __name__ == "__main__":
    export(Path(sys.argv[1]) if len(sys.argv) > 1 else EXPORTED)
