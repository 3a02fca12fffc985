"""What is archived reads as it read in the database: rows, bytes, record; and nothing goes that is not in it."""

from __future__ import annotations

import gzip
import json
import os
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from gsd_tasks.client.database import DatabaseClient
from gsd_tasks.domain.errors import AmbiguousId, ConfigurationError, NoSuchSession
from gsd_tasks.domain.retention import Pruned, Rule
from gsd_tasks.domain.session import SessionId, Stream
from gsd_tasks.http.live.pages import SessionPages
from gsd_tasks.http.live.story import BEGINNING
from gsd_tasks.service import follow
from gsd_tasks.service.archive import Archive, binding, layout
from gsd_tasks.service.retention import Prune
from gsd_tasks.settings import Settings
from gsd_tasks.store import Database, ended, outputs, transitions
from tests.retention.scenery import Piece, Scenery

ALL = Rule(keep=0)
ODD: tuple[Piece, ...] = (
    (Stream.STDOUT, b"", True),
    (Stream.STDERR, b"nul \0 in it", True),
    (Stream.STDOUT, b"no utf-8: \xff\xfe\xc3(", False),
    (Stream.STDOUT, b"\xe2\x82\xac and \xc2\x85 and \xe2\x80\xa8 no newline of JSON's", True),
    (Stream.STDERR, b"cr\r", True),
    (Stream.STDERR, b'{"index_at":000000000000007}', True),
    (Stream.STDOUT, b"\x1f\x8b\x08\x00", True),
    (Stream.STDOUT, b"the end without a newline", False),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def client(settings: Settings, folder: Path) -> Iterator[DatabaseClient]:
    with DatabaseClient(settings=settings.model_copy(update={"archive_dir": folder})) as client:
        yield client


def archive(database: Database, folder: Path) -> Pruned:
    return Prune(database, ALL, archive=Archive(folder)).run()


def everything(client: DatabaseClient, id_: SessionId | str) -> dict[str, Any]:
    """All that a client can be told of an ended session."""
    streams = (None, "stdout", "stderr")
    questions: dict[str, Callable[[], Any]] = {
        "get": lambda: client.get(id_),
        "history": lambda: client.history(id_),
        "attempts": lambda: client.attempts(id_),
        "turns": lambda: client.turns(id_),
        "wait": lambda: client.wait(id_, timeout_s=1),
        "raw": lambda: [b"".join(client.raw_output(id_, stream)) for stream in streams],
        "follow": lambda: [list(client.follow(id_, stream=stream)) for stream in streams],
        "pages": lambda: [
            list(client.output(id_, after_seq=after, limit=3, stream=stream, newest_first=newest))
            for after in range(10)
            for stream in streams
            for newest in (False, True)
        ],
        "bounded": lambda: list(client.rows(id_, limit=100, stream=None, largest_bytes=20)),
        "counts": lambda: [client.count_bytes(id_, stream) for stream in (None, *Stream)],
        "ranges": lambda: [
            b"".join(client.chunks(id_, None, first=first, most=most))
            for first in (0, 1, 7, 40, 10_000)
            for most in (None, 0, 1, 30)
        ],
    }
    return {name: ask() for name, ask in questions.items()}


def test_what_is_archived_reads_as_before(
    database: Database, scenery: Scenery, client: DatabaseClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "MEMBER_ROWS", 3)
    id_ = scenery.ended(lines=ODD, context={"ticket": 4711, "ünï": [1.5, None]}, env={"TOKEN": "s3cret"}, name="odd")
    silent = scenery.ended(lines=())
    moment = scenery.rows(id_)[4].written_at
    before, before_silent = everything(client, id_), everything(client, silent)
    since = client.output_since(id_, moment), client.output_since(id_, moment + timedelta(days=1))

    assert archive(database, folder).archived == 2

    assert scenery.ids() == set()
    assert everything(client, id_) == before
    assert everything(client, silent) == before_silent
    assert (client.output_since(id_, moment), client.output_since(id_, moment + timedelta(days=1))) == since
    written = b"".join(body + b"\n" * eol for _, body, eol in ODD)
    assert b"".join(client.raw_output(id_)) == written
    [path] = folder.rglob(f"*{id_}*")
    assert b"s3cret" not in gzip.decompress(path.read_bytes())


def test_any_tool_reads_the_file_and_only_its_owner(database: Database, scenery: Scenery, folder: Path) -> None:
    id_ = scenery.ended(lines=ODD)
    os.umask(0o022)
    archive(database, folder)

    [path] = folder.rglob("*.gz")
    shown = subprocess.run(["gzip", "-dc", path], check=True, capture_output=True).stdout
    documents = [json.loads(line) for line in shown.split(b"\n")[:-1]]
    assert documents[0]["record"]["session"]["id"] == str(id_)
    assert [document["seq"] for document in documents if "seq" in document] == [*range(1, len(ODD) + 1)]
    modes = {stat.S_IMODE(each.stat().st_mode) for each in (folder, path.parent)}
    assert (stat.S_IMODE(path.stat().st_mode), modes) == (0o600, {0o700})


def test_random_rows_come_back_as_they_were(
    database: Database, scenery: Scenery, client: DatabaseClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(6)
    monkeypatch.setattr(binding, "MEMBER_ROWS", 50)
    lines = [
        (chance.choice(list(Stream)), chance.randbytes(chance.choice((0, 1, 30, 2000))), chance.random() < 0.9)
        for _ in range(500)
    ]
    id_ = scenery.ended(lines=lines)
    rows, raw = scenery.rows(id_), b"".join(client.raw_output(id_))

    archive(database, folder)

    assert client.output(id_, limit=1000) == rows
    for _ in range(50):
        after, limit = chance.randrange(501), chance.randrange(1, 120)
        assert client.output(id_, after_seq=after, limit=limit) == rows[after : after + limit]
        newest = client.output(id_, after_seq=after, limit=limit, newest_first=True)
        assert newest == rows[after:][::-1][:limit]
        first, most = chance.randrange(len(raw)), chance.randrange(len(raw))
        assert b"".join(client.chunks(id_, None, first=first, most=most)) == raw[first : first + most]


def test_the_start_of_an_id_is_enough(
    database: Database, scenery: Scenery, client: DatabaseClient, folder: Path
) -> None:
    one, two = scenery.ended(), scenery.ended()
    archive(database, folder)

    assert client.get(str(one)).id == one
    differs = next(place for place in range(32) if one.hex[place] != two.hex[place])
    assert client.get(two.hex[: differs + 1]).id == two
    for digits in (one.hex[:differs], one.hex[:3]):
        with pytest.raises(AmbiguousId):
            client.get(digits)
    for unknown in ("ffff", "../..", str(UUID(int=7))):
        with pytest.raises(NoSuchSession):
            client.get(unknown)
    settings = client._settings.model_copy(update={"archive_dir": None})
    with DatabaseClient(settings=settings) as without, pytest.raises(NoSuchSession):
        without.get(one)


def test_nothing_is_removed_that_could_not_be_archived(
    database: Database, scenery: Scenery, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, holed = scenery.ended(), scenery.ended()
    scenery.execute("DELETE FROM session_outputs WHERE session_id = :id AND seq = 1", id=holed)
    folder.touch()
    with pytest.raises(ConfigurationError, match="nothing is archived"):
        archive(database, folder)
    folder.unlink()
    pack = layout.pack
    monkeypatch.setattr(layout, "pack", lambda lines: pack(lines.replace(b'"one"', b'"eno"')))
    with pytest.raises(ConfigurationError, match="not what is read back"):
        archive(database, folder)
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert scenery.ids() == {whole, holed}
    monkeypatch.undo()

    pruned = archive(database, folder)

    assert (pruned.sessions, pruned.archived, pruned.damaged) == (1, 1, 1)
    assert scenery.ids() == {holed}


def test_a_damaged_file_is_said_to_be_so(
    database: Database, scenery: Scenery, client: DatabaseClient, folder: Path
) -> None:
    id_ = scenery.ended(lines=ODD)
    archive(database, folder)
    [path] = folder.rglob("*.gz")
    good = path.read_bytes()
    for bad in (b"", good[:-30], good[: len(good) // 2], b"x" * 500, good[:40] + b"\x00\x01" + good[42:]):
        path.write_bytes(bad)
        with pytest.raises(ConfigurationError, match="damaged"):
            everything(client, id_)


def test_one_who_was_cut_off_in_between_is_gone_on_with(
    database: Database, scenery: Scenery, client: DatabaseClient, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the file was written and before the session was removed; the next run does not write it anew."""
    id_, retried = scenery.ended(lines=ODD), scenery.ended(succeeded=False)

    class Cut(Exception):
        pass

    def cut(*_: Any) -> list[SessionId]:
        raise Cut

    with monkeypatch.context() as patched:
        patched.setattr(ended, "remove", cut)
        with pytest.raises(Cut):
            archive(database, folder)
    written = {path: path.stat().st_ino for path in folder.rglob("*.gz")}
    assert len(written) == 2
    assert client.get(id_) == client.get(str(id_)), "the database comes first"

    with database.connection() as connection:
        assert transitions.retry(connection, retried)
    scenery.ended(retried, lines=[(Stream.STDOUT, b"three", True)])
    archive(database, folder)

    after = {path: path.stat().st_ino for path in folder.rglob("*.gz")}
    assert after.items() >= written.items()
    assert b"".join(client.raw_output(retried)) == b"one\ntwo\nthree\n", "that of the last attempt counts"


def test_whoever_reads_while_it_is_removed_goes_on_in_the_archive(
    database: Database, scenery: Scenery, client: DatabaseClient, folder: Path
) -> None:
    lines = [(Stream.STDOUT, b"%d" % number, True) for number in range(2500)]
    one, two, three = (scenery.ended(lines=lines) for _ in range(3))
    followed, raw, paged = client.follow(one), client.raw_output(two), client.output(three, limit=1000)
    first = [next(followed) for _ in range(10)], next(raw)

    archive(database, folder)

    assert [row.body for row in (*first[0], *followed)] == [body for _, body, _ in lines]
    assert first[1] + b"".join(raw) == b"".join(body + b"\n" for _, body, _ in lines)
    assert [row.body for row in (*paged, *client.output(three, after_seq=1000, limit=1000))] == [
        body for _, body, _ in lines[:2000]
    ]


def test_without_an_archive_whoever_reads_is_told_that_it_is_gone(
    database: Database, scenery: Scenery, settings: Settings
) -> None:
    """Never that it has ended there."""
    lines = [(Stream.STDOUT, b"%d" % number, True) for number in range(2500)]
    one, two = scenery.ended(lines=lines), scenery.ended(lines=lines)
    with DatabaseClient(settings=settings) as client:
        followed, raw = client.follow(one), client.raw_output(two)
        next(followed)
        next(raw)
        Prune(database, ALL).run()
        for reading in (followed, raw):
            with pytest.raises(NoSuchSession):
                list(reading)


def test_a_follower_is_not_told_an_end_that_was_a_removal(
    database: Database, scenery: Scenery, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was removed after the look at its status, and before that at its rows."""
    id_ = scenery.ended()
    look = follow._page

    def late(*given: Any) -> Any:
        Prune(database, ALL).run()
        return look(*given)

    with DatabaseClient(settings=settings) as client:
        assert len(list(client.follow(id_))) == 2
        monkeypatch.setattr(follow, "_page", late)
        with pytest.raises(NoSuchSession):
            list(client.follow(id_))


def test_the_index_finds_rows_without_reading_those_before_them(tmp_path: Path) -> None:
    parts = tuple(layout.Part(seq, 10, 20, 2000, 7, 8) for seq in range(1, 100_000, 2000))
    index = layout.Index(17, parts)
    written = b"x" * 1234 + layout.pack_tail(index, 1234)
    at = layout.find_index(written[-layout.TAIL_BYTES :], tmp_path)

    assert at == 1234
    assert layout.read_index(written[at:], tmp_path) == index
    assert index.rows == 100_000


def test_a_follower_over_http_is_not_told_an_end_that_was_a_removal(
    database: Database, scenery: Scenery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was removed between the two looks at its history and at its rows."""
    id_ = scenery.ended()
    read = outputs.read

    def late(*given: Any, **more: Any) -> Any:
        Prune(database, ALL).run()
        return read(*given, **more)

    whole = SessionPages(database, id_).read(BEGINNING, None)
    assert b"event: end" in whole.body
    monkeypatch.setattr(outputs, "read", late)
    torn = SessionPages(database, id_).read(BEGINNING, None)
    assert (torn.body, torn.has_ended) == (b"", True)
