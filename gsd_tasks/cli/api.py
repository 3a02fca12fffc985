"""`api`: what a client can do, over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gsd_tasks.cli import exits
from gsd_tasks.cli.connection import part_settings
from gsd_tasks.domain.sanitize import one_line


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("api")(api)


def api(
    *,
    host: Annotated[str | None, typer.Option(help="The address to listen at. Default: GSD_API_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port; 0 is any. Default: GSD_API_PORT.", min=0, max=65535)
    ] = None,
    certfile: Annotated[Path | None, typer.Option(help="A TLS certificate, with its chain.")] = None,
    keyfile: Annotated[Path | None, typer.Option(help="Its key, if that is another file.")] = None,
    proxy_headers: Annotated[
        bool, typer.Option("--proxy-headers", help="Take the word of a proxy on this machine on who calls.")
    ] = False,
) -> int:
    """Serve the API until Ctrl-C or SIGTERM. `gsd-tasks up` does it too.

    Every caller needs a token: `gsd-tasks token create` makes one.
    """
    from gsd_tasks.http.serve import Front, serve
    from gsd_tasks.telemetry import configure_part

    given = {"api_host": host, "api_port": port}
    settings = part_settings("api").model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    configure_part(settings, "api")
    serve(settings, Front(certfile, keyfile, proxy_headers), _say, _warn)
    return exits.OK


def _say(line: str) -> None:
    print(line, flush=True)


def _warn(line: str) -> None:
    print(f"gsd-tasks: {one_line(line)}", file=sys.stderr, flush=True)
