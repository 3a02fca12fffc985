"""The spool by itself: framing, following, resuming, trimming."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsd_tasks.domain.session import Stream
from gsd_tasks.process.spool import frames
from gsd_tasks.process.spool.exits import EndedBy, ExitFile, ExitRecord, read_exit
from gsd_tasks.process.spool.frames import STDERR, STDOUT, SpoolCorrupt
from gsd_tasks.process.spool.reader import SpoolReader
from gsd_tasks.process.spool.writer import SpoolWriter

Written = list[tuple[int, bytes]]

writes = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=60)), max_size=40)


def write(folder: Path, written: Written, segment_bytes: int = 128) -> SpoolWriter:
    writer = SpoolWriter(folder, segment_bytes)
    for at_ns, (stream, payload) in enumerate(written):
        writer.append(stream, payload, at_ns)
    return writer


def all_of(reader: SpoolReader, max_bytes: int = 50) -> dict[Stream, bytes]:
    got = {Stream.STDOUT: b"", Stream.STDERR: b""}
    while records := reader.read(max_bytes):
        for record in records:
            got[record.stream] += record.payload
    return got


def streams(written: Written) -> tuple[bytes, bytes]:
    stdout = b"".join(payload for stream, payload in written if stream == STDOUT)
    return stdout, b"".join(payload for stream, payload in written if stream == STDERR)


@given(written=writes, stdout_part=st.floats(0, 1), stderr_part=st.floats(0, 1), trims=st.booleans())
@settings(deadline=None, max_examples=200)
def test_reading_goes_on_from_any_pair_of_counts(
    written: Written, stdout_part: float, stderr_part: float, *, trims: bool
) -> None:
    """Exactly the remaining bytes of either stream, also when what came before is deleted."""
    stdout, stderr = streams(written)
    from_stdout, from_stderr = int(len(stdout) * stdout_part), int(len(stderr) * stderr_part)
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), written).close()
        with SpoolReader(Path(name), from_stdout, from_stderr) as reader:
            if trims:
                reader.trim(from_stdout, from_stderr)

            got = all_of(reader)

            assert got == {Stream.STDOUT: stdout[from_stdout:], Stream.STDERR: stderr[from_stderr:]}
            assert reader.counts == (len(stdout), len(stderr))


@given(written=writes, looks=st.lists(st.integers(0, 5), max_size=20))
@settings(deadline=None, max_examples=100)
def test_a_reader_that_follows_gets_every_record_once(written: Written, looks: list[int]) -> None:
    """Whenever it looks, in the order of writing and with its time."""
    got = []
    with tempfile.TemporaryDirectory() as name:
        writer = SpoolWriter(Path(name), 128)
        with SpoolReader(Path(name)) as reader:
            for at_ns, (stream, payload) in enumerate(written):
                writer.append(stream, payload, at_ns)
                if at_ns in looks:
                    got += reader.read(1000)
            while records := reader.read(10):
                got += records
        writer.close()

    names = {STDOUT: Stream.STDOUT, STDERR: Stream.STDERR}
    assert got == [(names[stream], at_ns, payload) for at_ns, (stream, payload) in enumerate(written)]


def test_a_torn_last_record_waits_until_it_is_whole(tmp_path: Path) -> None:
    """At whatever byte it is torn."""
    write(tmp_path, [(STDOUT, b"first"), (STDERR, b"second")], 1 << 20).close()
    segment = tmp_path / "000001.seg"
    whole = segment.read_bytes()
    before = len(whole) - frames.RECORD_BYTES - len(b"second")
    for cut in range(before, len(whole)):
        segment.write_bytes(whole[:cut])
        with SpoolReader(tmp_path) as reader:
            assert [record.payload for record in reader.read()] == [b"first"]
            assert reader.read() == []
            segment.write_bytes(whole)
            assert [record.payload for record in reader.read()] == [b"second"]


def test_a_segment_without_its_header_waits(tmp_path: Path) -> None:
    """The shim has just made the file, as the first one or as the next."""
    with SpoolReader(tmp_path) as reader:
        assert reader.read() == []
        (tmp_path / "000001.seg").write_bytes(b"gsds")
        assert reader.read() == []
        (tmp_path / "000001.seg").unlink()
        write(tmp_path, [(STDOUT, b"first")]).close()
        (tmp_path / "000002.seg").write_bytes(b"")
        assert [record.payload for record in reader.read()] == [b"first"]
        assert reader.read() == []


@given(written=writes.filter(lambda w: sum(len(p) for _, p in w) > 0), data=st.data())
@settings(deadline=None, max_examples=100)
def test_a_changed_byte_is_noticed(written: Written, data: st.DataObject) -> None:
    """Never a wrong byte: an error, or, at the very end, a record that seems unfinished."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), written, 1 << 20).close()
        segment = Path(name) / "000001.seg"
        content = bytearray(segment.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        segment.write_bytes(content)
        got: list[bytes] = []
        try:
            with SpoolReader(Path(name)) as reader:
                while records := reader.read(1):
                    got += [record.payload for record in records]
        except SpoolCorrupt:
            pass
        assert got == [payload for _, payload in written][: len(got)]
        assert len(got) < len(written)


def test_a_cut_off_record_before_another_segment_is_corrupt(tmp_path: Path) -> None:
    """Waiting for the rest would be waiting for ever."""
    write(tmp_path, [(STDOUT, b"x" * 100), (STDOUT, b"y" * 100)], 64).close()
    segment = tmp_path / "000001.seg"
    segment.write_bytes(segment.read_bytes()[:-1])

    with pytest.raises(SpoolCorrupt, match="cut off"), SpoolReader(tmp_path) as reader:
        all_of(reader)


def test_lost_records_before_another_segment_are_noticed(tmp_path: Path) -> None:
    """The next header says how many bytes there ought to have been."""
    write(tmp_path, [(STDOUT, b"x" * 10), (STDOUT, b"x" * 100), (STDOUT, b"y" * 100)], 100).close()
    segment = tmp_path / "000001.seg"
    segment.write_bytes(segment.read_bytes()[: frames.HEADER_BYTES + frames.RECORD_BYTES + 10])

    with pytest.raises(SpoolCorrupt, match="the next begins at"), SpoolReader(tmp_path) as reader:
        all_of(reader)


def test_reading_what_was_trimmed_is_an_error_and_not_a_gap(tmp_path: Path) -> None:
    """Somebody deleted more than was committed."""
    write(tmp_path, [(STDOUT, b"x" * 100), (STDOUT, b"y" * 100)], 64).close()
    SpoolReader(tmp_path).trim(100, 0)

    with pytest.raises(SpoolCorrupt, match="trimmed"), SpoolReader(tmp_path, 50) as reader:
        reader.read()


def test_trimming_leaves_the_newest_segment_and_all_that_is_not_committed(tmp_path: Path) -> None:
    """Neither stream's uncommitted bytes go, nor the file that the shim writes."""
    writer = write(tmp_path, [(STDOUT, b"a" * 100), (STDERR, b"b" * 100), (STDOUT, b"c" * 100)], 64)
    reader = SpoolReader(tmp_path)

    assert reader.trim(200, 0) == 1
    assert reader.trim(200, 99) == 0
    assert reader.trim(200, 100) == 1
    assert frames.segment_numbers(tmp_path) == [3]
    writer.close()


def test_a_read_is_bounded(tmp_path: Path) -> None:
    """About as much as was asked for, a record more at most."""
    write(tmp_path, [(STDOUT, b"x" * 1000)] * 100, 10_000).close()
    with SpoolReader(tmp_path) as reader:
        assert [len(reader.read(2500)) for _ in range(33)] == [3] * 33
        assert len(reader.read(2500)) == 1


def test_the_exit_record_appears_whole(tmp_path: Path) -> None:
    """And is shortened where it would not fit into the room that was kept for it."""
    record = ExitRecord(None, 9, EndedBy.SPOOL_FAILED, "é" * 5000, 1, 2, 3, 4, None)
    exit_file = ExitFile(tmp_path)
    assert read_exit(tmp_path) is None

    exit_file.write(record)

    read = read_exit(tmp_path)
    assert read is not None
    assert read.detail is not None
    assert record.detail is not None
    assert record.detail.startswith(read.detail)
    assert read == record._replace(detail=read.detail)


def test_an_exit_record_that_a_crash_left_empty_is_none(tmp_path: Path) -> None:
    """Nothing is synced: after a crash of the host a name may stand before its content."""
    (tmp_path / "exit.json").write_bytes(b"")

    assert read_exit(tmp_path) is None
