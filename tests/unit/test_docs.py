"""What the documents name exists, and what must be named is."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmarks import report
from gsd_tasks.cli.app import _app
from gsd_tasks.process.shim.protocol import ATTEMPT_VARIABLE, ID_VARIABLE, MARKER_VARIABLE
from gsd_tasks.settings import Settings
from gsd_tasks.store.tables import metadata

ROOT = Path(__file__).parents[2]
#: Those that people write; tests/unit/test_reference.py is about the others.
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    *sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "docs").rglob("*.md")
        if path.parent != ROOT / "docs/reference"
    ),
)
FIELDS = {f"GSD_{name.upper()}": field for name, field in Settings.model_fields.items()}
SHIMS_OWN = (ID_VARIABLE, ATTEMPT_VARIABLE, MARKER_VARIABLE)


def read(name: str) -> str:
    return (ROOT / name).read_text()


def fences(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """What stands in backticks within the prose."""
    return re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))


def lines_of_code(text: str) -> Iterator[str]:
    """What a reader may type: the lines behind a prompt, without their remarks, and what stands in backticks."""
    for block in fences(text, "console"):
        yield from (re.sub(r"\s{2,}#.*", "", line[2:]) for line in block.splitlines() if line.startswith("$ "))
    yield from spans(text)


def calls(line: str) -> Iterator[str]:
    """What is called in a line: by itself, and within `$(...)`."""
    yield from (inner.strip() for inner in re.findall(r"\$\(([^()]*)\)", line))
    yield re.sub(r"\$\([^()]*\)", "$", line)


def rows(text: str) -> list[list[str]]:
    """The cells of all tables."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def shown_default(name: str) -> str:
    default = FIELDS[name].default
    match default:
        case None | ():
            return "none"
        case tuple():
            return f"`{','.join(default)}`"
        case bool():
            return f"`{str(default).lower()}`"
        case float() | int():
            return f"`{default:.10g}`"
        case _:
            return f"`{default}`"


def commands() -> dict[str, set[str]]:
    """Every command of the command line, with its options."""
    group: Any = typer.main.get_command(_app())
    return {name: options_of(command) | {"-h", "--help"} for name, command in group.commands.items()}


def options_of(command: Any) -> set[str]:
    """A command's options; those of all of its commands, if it is a group of them."""
    own = {option for parameter in command.params for option in parameter.opts}
    return own.union(*(options_of(inner) for inner in getattr(command, "commands", {}).values()))


def test_the_settings_page_names_every_setting_and_no_other() -> None:
    named = re.findall(r"^\| `(GSD_\w+)` \|", read("docs/settings.md"), re.MULTILINE)

    assert sorted(named) == sorted(FIELDS)


def test_the_settings_page_states_the_defaults_of_the_code() -> None:
    stated = {cells[0].strip("`"): cells[1] for cells in rows(read("docs/settings.md")) if cells[0].startswith("`GSD_")}
    # Another one for each user; and one that has a place of its own.
    del stated["GSD_STATE_DIR"], stated["GSD_CLAUDE_ENV"]

    assert stated == {name: shown_default(name) for name in stated}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_names_no_variable_that_does_not_exist(name: str) -> None:
    named = set(re.findall(r"\bGSD_[A-Z][A-Z_]*[A-Z]\b", read(name)))
    of_tests = {variable for variable in named if variable.startswith("GSD_TEST_")}

    assert named - of_tests <= {*FIELDS}
    sources = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert all(f'"{variable}"' in sources for variable in of_tests)


def test_the_settings_page_lists_what_a_claude_child_gets() -> None:
    (listed,) = fences(read("docs/settings.md").partition("## Credentials for Claude")[2], "text")

    assert tuple(re.split(r",\s*", listed.strip())) == FIELDS["GSD_CLAUDE_ENV"].default


def test_the_settings_page_names_what_the_shim_sets() -> None:
    assert all(f"`{name}`" in read("docs/settings.md") for name in SHIMS_OWN)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_and_option_of_gsd_tasks_in_a_document_exists(name: str) -> None:
    there_are = commands()
    for line in (call for typed in lines_of_code(read(name)) for call in calls(typed)):
        words = shlex.split(line)
        if words[0] in there_are and line in spans(read(name)):
            words = ["gsd-tasks", *words]  # `run -d`: the program is understood
        if words[0] != "gsd-tasks" or len(words) == 1:
            continue
        command, *arguments = takewhile(lambda word: word not in {"|", "||", "&&"}, words[1:])
        assert command in there_are, line
        # What follows `--` is the session's own command.
        ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
        options = {argument.partition("=")[0] for argument in ours if re.match(r"--?\w", argument)}
        assert options <= there_are[command], line


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_option_that_a_document_names_by_itself_exists(name: str) -> None:
    ours = {option for options in commands().values() for option in options}
    # Those of other programs, named in the same way.
    others = {"--faults", "--keep", "--only", "--pdb", "--script", "--upgrade"}
    of_flower = {"--basic_auth", "--max_tasks", "--persistent"}

    assert {span for span in spans(read(name)) if re.fullmatch(r"--\w[\w-]*", span)} <= ours | others | of_flower


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_target_of_make_in_a_document_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for line in lines_of_code(read(name)):
        words = shlex.split(line)
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, line


def test_the_celery_commands_of_the_readme_are_those_of_the_procfile() -> None:
    processes = re.findall(r"^\w+: (celery .*)$", read("Procfile"), re.MULTILINE)
    named = [line.strip() for line in lines_of_code(read("README.md")) if line.startswith("celery -A")]

    assert len(named) == 3
    assert all(any(process.startswith(line) for process in processes) for line in named), named


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_python_of_a_document_compiles_and_imports_what_there_is(name: str) -> None:
    blocks = fences(read(name), "python")
    assert blocks or name != "README.md"
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert [name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_path_of_the_code_in_a_document_exists(name: str) -> None:
    below = [path.relative_to(ROOT).as_posix() for path in (ROOT / "gsd_tasks").rglob("*")]
    for span in spans(read(name)):
        if re.fullmatch(r"(gsd_tasks|scripts)/[\w./]+", span):
            assert (ROOT / span).exists(), span
        elif re.fullmatch(r"[\w/]+\.py|(domain|local|process|service|store)/[\w/]+", span):
            assert any(path.endswith(f"/{span}") for path in below), span
        elif match := re.fullmatch(r"(?:python -m )?(gsd_tasks(?:\.\w+)+)", span):
            assert_importable(match[1])


def test_the_events_of_the_page_on_logs_are_said_somewhere() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "gsd_tasks").rglob("*.py"))
    tables = read("docs/logs.md").partition("## Events")[2]
    events = [event for cells in rows(tables) for event in re.findall(r"`([^`]+)`", cells[0])]

    assert len(events) > 10
    assert [event for event in events if f'"{event}"' not in sources] == []


def assert_importable(name: str) -> None:
    """A module, or something in one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_the_layers_in_the_architecture_are_those_that_are_checked() -> None:
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (checked,) = [contract["layers"] for contract in contracts if contract["id"] == "layers"]
    # A line that is indented goes on with the one before it.
    block = fences(read("docs/architecture.md").partition("## Layers")[2], "text")[0].replace("\n  ", " ")
    drawn = [re.split(r"\s{2,}", line)[0] for line in block.splitlines()]

    assert [set(re.findall(r"\w+", line)) for line in drawn] == [set(re.findall(r"\w+", layer)) for layer in checked]
    assert ["|" in line for line in drawn] == ["|" in layer for layer in checked]


def test_the_architecture_names_every_table() -> None:
    text = read("docs/architecture.md").partition("## Tables")[2].partition("## ")[0]
    named = [cells[0].strip("`") for cells in rows(text) if cells[0].startswith("`")]

    assert sorted(named) == sorted(metadata.tables)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_within_the_repository_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", read(name)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (ROOT / name).parent / path if path else ROOT / name
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE) if anchor else []
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


@pytest.mark.parametrize("name", DOCUMENTS)
def test_lines_of_documents_fit_on_a_screen(name: str) -> None:
    # But for a table that a run of the benchmarks has written.
    before, _, rest = read(name).partition(report.BEGIN)
    lines = (before + rest.partition(report.END)[2]).splitlines()
    assert [line for line in lines if len(line) > 120] == []
