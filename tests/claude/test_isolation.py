from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from gsd_tasks.domain.session import ClaudeOptions, PermissionMode
from gsd_tasks.domain.state import Reason
from gsd_tasks.process.claude import claude_argv, claude_env, make_private_dir
from gsd_tasks.testing import Hang, OfflineModel, Text, ToolCall
from tests.claude.conftest import DEADLINE_S, Claude

TOUCH = ToolCall("Bash", {"command": "touch made"})


def test_the_prompt_is_in_nobodys_process_list(claude: Claude) -> None:
    with OfflineModel([Hang(seconds=60)]) as model:
        process = claude.start(model, "The secret is xyzzy")
        assert "xyzzy" in model.wait_for(1).prompt
        seen = Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
        process.kill()

    assert b"--session-id" in seen
    assert b"xyzzy" not in seen


def plant(cwd: Path) -> None:
    """A project that runs something as soon as it is opened."""
    hook = {"hooks": [{"type": "command", "command": f"touch {cwd}/hook-ran"}]}
    settings = {"hooks": {"SessionStart": [hook], "UserPromptSubmit": [hook]}, "enableAllProjectMcpServers": True}
    (cwd / ".claude").mkdir()
    (cwd / ".claude/settings.json").write_text(json.dumps(settings))
    server = {"command": "touch", "args": [f"{cwd}/mcp-ran"]}
    (cwd / ".mcp.json").write_text(json.dumps({"mcpServers": {"planted": server}}))


@pytest.mark.parametrize("trusting", [False, True], ids=["as we start it", "as it comes"])
def test_a_projects_own_hooks_and_servers_do_not_run(claude: Claude, trusting: bool) -> None:
    # The second case shows that the first one would notice.
    plant(claude.cwd)
    session_id, options = uuid.uuid4(), ClaudeOptions()
    argv = claude_argv(claude.binary, session_id, options)
    if trusting:
        argv = tuple(item for item in argv if item not in ("--setting-sources=", "--strict-mcp-config"))
    env = claude_env(make_private_dir(claude.private_base, session_id, 1), options)
    with OfflineModel([Text("Hello.")]) as model:
        ended = claude.end(claude.spawn(argv, model, "Hello", env))

    assert ended.verdict.ok
    ran = [name for name in ("hook-ran", "mcp-ran") if (claude.cwd / name).exists()]
    assert ran == (["hook-ran", "mcp-ran"] if trusting else [])


def test_no_proxy_is_asked_for_another_host(claude: Claude) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap, OfflineModel([TOUCH, Text("Done.")]) as model:
        address = f"http://127.0.0.1:{trap.getsockname()[1]}"
        claude.env = {"HTTP_PROXY": address, "HTTPS_PROXY": address, "NO_PROXY": "127.0.0.1"}
        ended = claude.run(model, "Touch it")
        trap.setblocking(False)
        with pytest.raises(BlockingIOError):
            trap.accept()

    assert ended.verdict.ok
    assert model.strays == ()


IN_A_NAMESPACE = """
import fcntl, json, socket, struct, subprocess, sys, uuid
from gsd_tasks.domain.transcript import user_message
from gsd_tasks.testing import OfflineModel, Text, ToolCall

def unroutable():
    with open("/proc/net/snmp") as file:
        names, values = [line.split() for line in file if line.startswith("Ip:")]
    return int(values[names.index("OutNoRoutes")])

with socket.socket() as loopback:
    fcntl.ioctl(loopback, 0x8914, struct.pack("16sH14x", b"lo", 1 | 0x40))  # SIOCSIFFLAGS: up and running
argv, env, cwd = json.loads(sys.argv[1])
with OfflineModel([ToolCall("Bash", {"command": "touch made"}), Text("Done.")]) as model:
    said = user_message(uuid.uuid4(), "Touch it")
    done = subprocess.run(argv, env=env | model.env, cwd=cwd, input=said, stdout=subprocess.DEVNULL)
before = unroutable()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    try:
        control.sendto(b"?", ("192.0.2.1", 53))
    except OSError:
        pass
print(json.dumps({"exit": done.returncode, "tried": before, "control": unroutable() - before, "strays": model.strays}))
"""


def test_it_tries_to_reach_nothing_but_the_loopback(claude: Claude) -> None:
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no network namespace here")
    session_id, options = uuid.uuid4(), ClaudeOptions()
    env = claude_env(make_private_dir(claude.private_base, session_id, 1), options)
    argv = claude_argv(claude.binary, session_id, options)
    given = json.dumps([argv, env | {"PATH": "/usr/bin:/bin", "HOME": str(claude.home)}, str(claude.cwd)])
    command = [*unshare, sys.executable, "-c", IN_A_NAMESPACE, given]
    done = subprocess.run(command, capture_output=True, check=True, timeout=DEADLINE_S)

    # A packet that has no route is counted: none before our own one says that the CLI sent none.
    assert json.loads(done.stdout) == {"exit": 0, "tried": 0, "control": 1, "strays": []}


def test_nothing_is_left_outside_the_private_folder(claude: Claude) -> None:
    before = {path.name for path in Path("/tmp").glob("claude*")}
    with OfflineModel([TOUCH, Text("Done.")]) as model:
        ended = claude.run(model, "Touch it")

    init = ended.conversation.init
    assert init is not None
    assert Path(init.extras["messaging_socket_path"]).is_relative_to(claude.private_base)
    assert {path.name for path in Path("/tmp").glob("claude*")} == before
    assert sorted(path.name for path in claude.home.iterdir()) == ["p", "work"]
    assert [path.name for path in claude.cwd.iterdir()] == ["made"]
    shutil.rmtree(claude.private_base)


def test_an_ordinary_user_can_run_it(as_nobody: Claude) -> None:
    with OfflineModel([TOUCH, Text("Done.")]) as model:
        ended = as_nobody.run(model, "Touch it")

    assert ended.verdict.reason is Reason.FINISHED
    assert (as_nobody.cwd / "made").stat().st_uid == (as_nobody.uid or os.geteuid())


def test_bypassing_permissions_works_for_root_and_others(claude: Claude) -> None:
    command = f"touch {claude.home}/outside"
    with OfflineModel([ToolCall("Bash", {"command": command}), Text("Done.")]) as model:
        ended = claude.run(model, "Touch it", ClaudeOptions(permission_mode=PermissionMode.BYPASS))

    assert ended.verdict.ok, ended.stderr
    assert (claude.home / "outside").exists()
