"""The OpenAPI document, made from the routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from gsd_tasks.http.documented import problem_schemas

if TYPE_CHECKING:
    from fastapi import FastAPI


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


def _base64(schema: dict[str, Any]) -> None:
    for kind in schema["anyOf"]:
        if kind.pop("contentMediaType", None) is not None:
            kind["contentEncoding"] = "base64"
