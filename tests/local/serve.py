"""Both servers in a folder, their addresses on stdout, until stdin ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from gsd_tasks.local.embedded import embedded_servers
from gsd_tasks.local.up import print_line

with embedded_servers(Path(sys.argv[1]), extra_postgres_settings={"fsync": "off"}) as servers:
    addresses = {"database_url": servers.database_url, "redis_url": servers.redis_url}
    print_line(json.dumps(addresses))
    sys.stdin.read()
