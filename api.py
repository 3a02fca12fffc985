"""The ASGI entry: `uvicorn api:app`. The settings are the environment's."""

import logging

from gsd_tasks.http.app import create_app
from gsd_tasks.settings import read_settings
from gsd_tasks.telemetry import configure_logs, configure_part

settings = read_settings()
if settings.log_json:
    # Uvicorn has set up its loggers before it looks here. What it says of a request has the whole query in it.
    configure_part(settings, "api")
    logging.getLogger("uvicorn.access").disabled = True
else:
    configure_logs(settings)
app = create_app(settings)
