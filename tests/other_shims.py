"""Shims of other versions: today's, run by a file that makes it speak as the one before, or those to come, would."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final

import gsd_tasks

_ROOT: Final = Path(gsd_tasks.__file__).parents[1]
_ENTRY: Final = """
import sys
sys.path.append({root!r})
from gsd_tasks.process.shim import control, loop, protocol
from gsd_tasks.process.shim import main as shim
from gsd_tasks.process.spool import exits, frames
answer = loop.Loop._answer
{changes}
sys.exit(shim.main(sys.argv[1:]))
"""
#: Without inputs, and without a word on versions in its lock.
_BEFORE: Final = """
control.PROTOCOL = shim.PROTOCOL = 1
shim.VERSION.clear()
decode = protocol.LaunchSpec.decode
protocol.LaunchSpec.decode = classmethod(lambda cls, said: decode(said)._replace(inputs=None, max_processes=0))

def answer_before(self, request):
    if request["do"] in ("input", "close_input"):
        raise ValueError(f"unknown request: {request}")
    return {name: value for name, value in answer(self, request).items() if name not in ("inputs", "input_open")}

loop.Loop._answer = answer_before
"""
#: It has more to say, and to whoever speaks today's protocol it says nothing else than today's shim.
_NEXT: Final = """
control.PROTOCOL = shim.PROTOCOL = protocol.PROTOCOL + 1
shim.VERSION.update(protocol=protocol.PROTOCOL + 1, mood="good")
loop.Loop._answer = lambda self, request: {**answer(self, request), "mood": "good"}
as_dict = exits.ExitRecord._asdict
exits.ExitRecord._asdict = lambda self: {**as_dict(self), "mood": "good"}
"""
#: Nothing of it is as it was, but what never changes.
_STRANGE: Final = """
control.PROTOCOL = shim.PROTOCOL = protocol.PROTOCOL + 2
shim.VERSION.update(protocol=protocol.PROTOCOL + 2, readers_since=protocol.PROTOCOL + 1)
control.line = lambda message: b'["what?"]' + bytes([10])
frames.VERSION = 9
exits._NAME = "ended.cbor"
"""


class OtherShim(Enum):
    """BEFORE speaks the protocol before today's, NEXT the one after it, STRANGE one that today's workers cannot."""

    BEFORE = _BEFORE
    NEXT = _NEXT
    STRANGE = _STRANGE

    def entry(self, folder: Path) -> Path:
        """What is executed as the shim."""
        path = folder / f"{self.name.lower()}_shim.py"
        path.write_text(_ENTRY.format(root=str(_ROOT), changes=self.value))
        return path
