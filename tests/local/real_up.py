"""`up` as it is, without workers, which nothing here needs. Argument: the state folder."""

from __future__ import annotations

import os
import sys

from gsd_tasks import store
from gsd_tasks.local.up import run_up
from gsd_tasks.settings import read_settings

os.environ["GSD_STATE_DIR"] = sys.argv[1]
sys.exit(run_up(read_settings(), migrate=store.migrate, worker_is_up=lambda _addresses, _pid: True, workers=0))
