"""The ASGI entry: `uvicorn api:app`. The settings are the environment's."""

from gsd_tasks.http.app import create_app
from gsd_tasks.settings import read_settings

app = create_app(read_settings())
