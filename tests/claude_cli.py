"""The claude CLI that tests run: the one in the claude-agent-sdk wheel, and no other that the machine may have."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SPEC = importlib.util.find_spec("claude_agent_sdk")
assert _SPEC is not None, "install the extra `claude`"
assert _SPEC.origin is not None
BUNDLED_CLAUDE = Path(_SPEC.origin).parent / "_bundled" / "claude"
