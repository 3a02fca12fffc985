"""What a process tells of itself: its log."""

from gsd_tasks.telemetry.logs import about, configure_logs, get_log
from gsd_tasks.telemetry.part import configure_part, is_json_asked, refuse

__all__ = ["about", "configure_logs", "configure_part", "get_log", "is_json_asked", "refuse"]
