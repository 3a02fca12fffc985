"""The page about the API names its routes, its problems and its bounds, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gsd_tasks.http import bounds, problems, protocol
from gsd_tasks.http.app import create_app
from gsd_tasks.http.auth import accesses
from gsd_tasks.http.routes import output
from gsd_tasks.settings import Settings
from gsd_tasks.wire.problems import LINES

PAGE: Final = (Path(__file__).parents[2] / "docs/api.md").read_text()


def rows(title: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    part = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_it_names_every_route_with_its_scope() -> None:
    app = create_app(Settings())
    operations = {
        (method.upper(), path): operation["operationId"]
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }
    expected = [
        [
            f"{access.method} {access.path.replace('{session_id}', '{id}')}",
            operations[access.method, access.path],
            *(sorted(scope.value for scope in access.scopes) or ["none"]),
        ]
        for access in accesses(app)
    ]
    assert sorted(row[:3] for row in rows("Routes")) == sorted(expected)


def test_it_names_every_problem_with_what_comes_with_it() -> None:
    ours = {(str(line.status), line.slug): [line.title, ", ".join(line.members) or "none"] for line in LINES}
    others = {(str(int(status)), slug): [title, "none"] for status, (slug, title, _) in problems.FRAMEWORK.items()}
    named = {(status, slug): [title, members.replace("`", "")] for status, slug, title, members in rows("Problems")}
    assert named == others | ours
    assert len(named) == len(rows("Problems"))


def test_it_states_the_bounds_of_the_code() -> None:
    said = " ".join(PAGE.split())
    assert f"A body has {Settings().api_largest_body // 1024**2} MiB at most" in said
    assert f"{bounds.SLOWEST_BODY_S:g} s to come" in said
    assert f"headers have {bounds.LARGEST_HEADERS // 1024} KiB together" in said
    assert f"path and query {bounds.LONGEST_TARGET // 1024} KiB" in said
    assert f"is left after {protocol.HEAD_S:g} s" in said
    assert f"{Settings().api_streams} streams open at a time" in said
    assert f"A page of output has {output.LARGEST_PAGE // 1024**2} MiB at most" in said
