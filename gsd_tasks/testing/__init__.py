"""Tools for testing against the real claude CLI without the real API."""

from gsd_tasks.testing.json_script import script_from_json
from gsd_tasks.testing.model import OfflineModel
from gsd_tasks.testing.request import Request, ToolResult
from gsd_tasks.testing.script import (
    ApiError,
    Cut,
    Hang,
    Pings,
    Reply,
    Script,
    Text,
    Thinking,
    ToolCall,
    Turn,
    by_prompt,
)

__all__ = [
    "ApiError",
    "Cut",
    "Hang",
    "OfflineModel",
    "Pings",
    "Reply",
    "Request",
    "Script",
    "Text",
    "Thinking",
    "ToolCall",
    "ToolResult",
    "Turn",
    "by_prompt",
    "script_from_json",
]
