from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsd_tasks.domain.errors import InvalidValue
from gsd_tasks.process.environment import child_environment

WORKER = {
    "PATH": "/bin",
    "LC_ALL": "C",
    "LC_TIME": "C",
    "AWS_SECRET": "s",
    "GSD_DATABASE_URL": "postgresql://",
    "gsd_redis_url": "redis://",
    "GSDTASKS_MARKER": "1:1",
    "ANTHROPIC_API_KEY": "k",
}


def test_nothing_is_inherited_unasked() -> None:
    assert child_environment(WORKER, (), {}) == {}


def test_names_and_patterns_pick_from_the_worker() -> None:
    assert child_environment(WORKER, ("PATH", "LC_*", "MISSING"), {}) == {"PATH": "/bin", "LC_ALL": "C", "LC_TIME": "C"}


def test_a_pattern_is_as_exact_as_the_system_in_upper_and_lower_case() -> None:
    assert child_environment(WORKER, ("path", "lc_*"), {}) == {}


@pytest.mark.parametrize("pattern", ["*", "GSD*", "GSD_*", "GSD_DATABASE_URL", "[Gg]*", "gsd_*"])
def test_no_pattern_passes_our_own_settings_on(pattern: str) -> None:
    """Nor the marker of a session in which the worker was started: its children are not that one's."""
    assert not {name for name in child_environment(WORKER, (pattern,), {}) if name.upper().startswith("GSD")}


def test_the_sessions_own_variables_stand_above_the_workers() -> None:
    assert child_environment(WORKER, ("PATH",), {"PATH": "/opt", "X": ""}) == {"PATH": "/opt", "X": ""}


@pytest.mark.parametrize(
    ("name", "value"), [("", "s3"), ("A=B", "s3"), ("A\0", "s3"), ("A", "s3\0"), ("A", "s3\ud800")]
)
def test_what_cannot_be_passed_on_is_refused_without_telling_the_value(name: str, value: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        child_environment({}, (), {name: value})
    assert refused.value.field == "env"
    assert "s3" not in str(refused.value)


@given(st.dictionaries(st.text(), st.text()), st.lists(st.text(max_size=3)))
def test_every_variable_was_asked_for(source: dict[str, str], patterns: list[str]) -> None:
    assert child_environment(source, patterns, {}).items() <= source.items()
