"""The files of a log: one for each process, rotated, compressed, deleted; whole at each moment."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import re
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ollama_otel import Client
from ollama_otel._log.files import LogFile, base_of, files_of
from ollama_otel._log.own_files import open_own
from ollama_otel.replay import ReplayLog, read
from ollama_otel.testing import FakeOllama
from tests.benchmarks.killed import kill_and_read

HEADER = b'{"v":1,"event":"opened","at":"2026-01-01T00:00:00.000000Z"}\n'


class Clock:
    def __init__(self, now: float = 1_767_225_600.0) -> None:  # 2026-01-01
        self.now = now

    def __call__(self) -> float:
        return self.now


class Tidying(LogFile):
    """Does after each write what the thread that writes does."""

    def append(self, lines: bytes) -> None:
        super().append(lines)
        self.tidy_up()


def log_file(path: Path, **options: Any) -> LogFile:
    defaults: dict[str, Any] = {
        "max_size": 1000,
        "max_age": 3600.0,
        "keep": 3,
        "header_line": lambda: HEADER,
        "clock": Clock(),
    }
    return Tidying(base_of(path), **defaults | options)


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def names(folder: Path) -> list[str]:
    return sorted(
        re.sub(r"\d{8}T\d{12}Z-\d+", "TIME-PID", path.name.replace(f".pid{os.getpid()}.", ".PID."))
        for path in folder.iterdir()
    )


def test_a_folder_stands_for_a_file_in_it(tmp_path: Path) -> None:
    assert base_of(tmp_path) == tmp_path / "calls.jsonl"
    assert base_of(f"{tmp_path}/new/") == tmp_path / "new" / "calls.jsonl"
    assert base_of(tmp_path / "my.log") == tmp_path / "my.log"


def test_a_file_begins_with_who_writes_it(tmp_path: Path) -> None:
    file = log_file(tmp_path / "a.jsonl")
    file.append(b"one\n")
    file.append(b"two\n")
    assert (tmp_path / "a.jsonl").read_bytes() == HEADER + b"one\ntwo\n"


def test_a_full_file_is_compressed_and_put_aside(tmp_path: Path) -> None:
    file = log_file(tmp_path / "a.jsonl", max_size=100)
    for line in (b"x" * 60 + b"\n", b"y" * 60 + b"\n"):
        file.append(line)
    archived, active = files_of(tmp_path / "a.jsonl")
    assert names(tmp_path) == ["a.TIME-PID.jsonl.gz", "a.jsonl"]
    assert content(archived) == HEADER + b"x" * 60 + b"\n"
    assert content(active) == HEADER + b"y" * 60 + b"\n"


def test_a_line_longer_than_a_file_may_be_is_written_all_the_same(tmp_path: Path) -> None:
    file = log_file(tmp_path / "a.jsonl", max_size=10)
    file.append(b"x" * 100 + b"\n")
    assert names(tmp_path) == ["a.jsonl"]


def test_an_old_file_is_put_aside_also_by_the_next_process(tmp_path: Path) -> None:
    clock = Clock()
    first = log_file(tmp_path / "a.jsonl", clock=clock)
    first.append(b"one\n")
    first.close()
    clock.now += 3601
    file = log_file(tmp_path / "a.jsonl", clock=clock)
    file.append(b"two\n")
    archived, active = files_of(tmp_path / "a.jsonl")
    assert content(archived) == HEADER + b"one\n" + HEADER
    assert content(active) == HEADER + b"two\n"


def test_the_newest_files_are_kept(tmp_path: Path) -> None:
    clock = Clock()
    file = log_file(tmp_path / "a.jsonl", max_size=70, clock=clock)
    (tmp_path / "b.jsonl").write_bytes(b"not ours\n")
    for number in range(7):
        clock.now += 1
        file.append(b"%d" % number * 10 + b"\n")
    contents = [content(path).removeprefix(HEADER)[:1] for path in files_of(tmp_path / "a.jsonl")]
    assert contents == [b"3", b"4", b"5", b"6"]
    assert (tmp_path / "b.jsonl").exists()


def test_two_at_once_write_two_files(tmp_path: Path) -> None:
    first, second, third = (log_file(tmp_path / "a.jsonl") for _ in range(3))
    for number, file in enumerate((first, second, third, first)):
        file.append(b"%d\n" % number)
    assert len(files_of(tmp_path / "a.jsonl")) == 3
    assert (tmp_path / "a.jsonl").read_bytes() == HEADER + b"0\n3\n"


def test_the_file_of_a_process_that_has_ended_is_continued(tmp_path: Path) -> None:
    first, second = log_file(tmp_path / "a.jsonl"), log_file(tmp_path / "a.jsonl")
    first.append(b"one\n")
    second.append(b"two\n")
    assert names(tmp_path) == ["a.PID.jsonl", "a.jsonl"]
    third = log_file(tmp_path / "a.jsonl")
    second.close()
    third.append(b"three\n")
    assert names(tmp_path) == ["a.PID.jsonl", "a.jsonl"]
    other = tmp_path / f"a.pid{os.getpid()}.jsonl"
    assert other.read_bytes() == HEADER + b"two\n" + HEADER + b"three\n"


@pytest.mark.parametrize("due", ["old", "full"])
def test_only_full_and_old_files_of_ended_processes_are_put_aside(tmp_path: Path, due: str) -> None:
    clock = Clock()
    for number in range(1, 4):
        (tmp_path / f"a.pid{number}.jsonl").write_bytes(HEADER + b"fresh\n")
    late = b"x" * 1000 if due == "full" else b"x"
    began = b'"at":"2025-12-31T00:00:00Z"}\n' if due == "old" else b'"at":"2026-01-01T00:00:00Z"}\n'
    for number in range(4, 9):
        path = tmp_path / f"a.pid{number}.jsonl"
        path.write_bytes(b'{"v":1,"event":"opened",' + began + late + b"%d\n" % number)
    # All are put aside within one tick of the clock, and one more than `keep` is not lost.
    log_file(tmp_path / "a.jsonl", clock=clock, keep=5).append(b"one\n")
    archived = files_of(tmp_path / "a.jsonl")[:5]
    assert [path.suffix for path in archived] == [".gz"] * 5
    assert {content(path)[-2:] for path in archived} == {b"%d\n" % n for n in range(4, 9)}
    assert names(tmp_path)[5:] == [f"a.{name}jsonl" for name in ("", "pid1.", "pid2.", "pid3.")]


def test_small_files_are_kept_for_as_long_as_full_ones(tmp_path: Path) -> None:
    clock = Clock()
    day = 3600.0
    for _ in range(3):
        for number in range(8):  # so many processes put aside a file of the day that has passed
            path = tmp_path / f"a.pid{number}.jsonl"
            path.write_bytes(HEADER + b"x\n")
        clock.now += day + 1
        file = log_file(tmp_path / "a.jsonl", clock=clock)
        file.append(b"one\n")
        file.close()
    assert len(files_of(tmp_path / "a.jsonl")) >= 24
    clock.now += 3 * day + 1
    file = LogFile(
        tmp_path / "a.jsonl",
        max_size=1000,
        max_age=day,
        keep=3,
        header_line=lambda: HEADER,
        clock=clock,
    )
    file.append(b"one\n")
    before = len(files_of(tmp_path / "a.jsonl"))
    deleted = file.tidy_up()
    assert len(files_of(tmp_path / "a.jsonl")) == before - deleted == 1 + 3


def test_small_files_together_take_no_more_room_than_full_ones(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / f"a.20260101T0000000000{number}Z-1.jsonl.gz"
        path.write_bytes(gzip.compress(b"x" * 100))
    log_file(tmp_path / "a.jsonl").append(b"one\n")
    archived = files_of(tmp_path / "a.jsonl")[:-1]
    assert len(archived) == 30  # of 100 bytes each; 3 of 1000 bytes are to be kept
    assert archived[0].name == "a.20260101T000000000010Z-1.jsonl.gz"


def test_deleted_files_are_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ollama_otel")
    log = ReplayLog(tmp_path / "calls.jsonl", max_size=1, keep=2)
    client = Client(transport=FakeOllama().transport(), observers=[log])
    for _ in range(6):
        client.list()
        assert log.flush()
    assert log.close()
    archives = len(files_of(tmp_path / "calls.jsonl")) - 1
    assert archives == 2
    assert log.statistics.deleted_files >= 2
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "oldest files are deleted" in caplog.text


def test_a_file_of_another_user_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = log_file(tmp_path / "a.jsonl")
    first.append(b"one\n")
    theirs = tmp_path / "a.pid1.jsonl"
    theirs.write_bytes(HEADER)
    open_file = os.open

    def refuse(path: Any, *arguments: Any) -> int:
        if Path(path) == theirs:
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    log_file(tmp_path / "a.jsonl").append(b"two\n")
    assert names(tmp_path) == ["a.PID.jsonl", "a.jsonl", "a.pid1.jsonl"]


def test_a_file_that_is_no_log_is_left_alone(tmp_path: Path) -> None:
    theirs, similar = tmp_path / "a.jsonl", tmp_path / "b.pid1.jsonl"
    for file in (theirs, similar):
        file.write_text("Dear diary,\n")
        file.chmod(0o644)
    with pytest.raises(FileExistsError, match="not a replay log"):
        log_file(theirs).append(b"one\n")
    log_file(tmp_path / "b.jsonl").append(b"one\n")
    for file in (theirs, similar):
        assert file.read_text() == "Dear diary,\n"
        assert file.stat().st_mode & 0o777 == 0o644
    assert names(tmp_path) == ["a.jsonl", "b.jsonl", "b.pid1.jsonl"]


def test_a_torn_line_is_ended_before_the_next_one(tmp_path: Path) -> None:
    whole = b'{"v":1,"event":"opened"}\n'
    (tmp_path / "a.jsonl").write_bytes(whole + b'{"v":')
    log_file(tmp_path / "a.jsonl").append(b"next\n")
    assert (tmp_path / "a.jsonl").read_bytes() == whole + b'{"v":\n' + HEADER + b"next\n"


def test_after_a_crash_while_compressing_nothing_is_read_twice(tmp_path: Path) -> None:
    stem = tmp_path / "a.20260101T000000000000Z-1.jsonl"
    stem.write_bytes(b"one\n")
    stem.with_name(f"{stem.name}.gz").write_bytes(gzip.compress(b"one\n"))
    stem.with_name(f"{stem.name}.gz.part").write_bytes(b"half")
    assert [path.suffix for path in files_of(tmp_path / "a.jsonl")] == [".gz"]


def test_what_is_new_is_written_before_what_is_old_is_compressed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = LogFile(
        base_of(path), max_size=70, max_age=9.0, keep=3, header_line=lambda: HEADER, clock=Clock()
    )
    file.append(b"x" * 60 + b"\n")
    file.append(b"new\n")
    assert names(tmp_path) == ["a.TIME-PID.jsonl", "a.jsonl"]
    assert path.read_bytes() == HEADER + b"new\n"


def test_what_a_killed_process_left_is_compressed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "a.20260101T000000000000Z-1.jsonl"
    left.write_bytes(b"one\n")
    left.with_name(f"{left.name}.gz.part").write_bytes(b"half")
    log_file(tmp_path / "a.jsonl").append(b"two\n")
    assert names(tmp_path) == ["a.TIME-PID.jsonl.gz", "a.jsonl"]
    assert content(left.with_name(f"{left.name}.gz")) == b"one\n"


ROTATING = """
    import sys
    from pathlib import Path
    from ollama_otel._log.files import LogFile

    header = b'{"v":1,"event":"opened"}\\n'
    file = LogFile(
        Path(sys.argv[1]), max_size=1, max_age=1e9, keep=10**6, header_line=lambda: header
    )
    for number in range(150):
        file.append(b'{"v":1,"name":"%s-%d"}\\n' % (sys.argv[2].encode(), number))
        file.tidy_up()
"""


@pytest.mark.processes
def test_processes_that_rotate_all_the_time_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    workers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(ROTATING), str(path), str(name)])
        for name in range(4)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    found = b"".join(content(file) for file in files_of(path))
    assert len(set(re.findall(rb'"name":"(\d-\d+)"', found))) == 600


def test_without_room_to_compress_a_full_file_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    file = log_file(tmp_path / "a.jsonl", max_size=70)
    file.append(b"x" * 60 + b"\n")
    file.append(b"y" * 60 + b"\n")
    assert names(tmp_path) == ["a.TIME-PID.jsonl", "a.jsonl"]
    assert "stays uncompressed ([Errno 28]" in caplog.text


@pytest.mark.parametrize("vanish", ["delete", "rename", "folder"])
def test_a_file_that_somebody_takes_away_is_made_anew(tmp_path: Path, vanish: str) -> None:
    folder = tmp_path / "logs"
    file = log_file(folder / "a.jsonl")
    file.append(b"one\n")
    if vanish == "folder":
        folder.rename(tmp_path / "moved")
    elif vanish == "rename":
        (folder / "a.jsonl").rename(folder / "elsewhere")
    else:
        (folder / "a.jsonl").unlink()
    file.append(b"two\n")
    assert (folder / "a.jsonl").read_bytes() == HEADER + b"two\n"


def test_a_write_that_fails_leaves_no_torn_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = log_file(tmp_path / "a.jsonl")
    file.append(b"one\n")
    write, calls = os.write, 0

    def full(descriptor: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(descriptor, bytes(data)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            file.append(b"a long line\n")
    assert (tmp_path / "a.jsonl").read_bytes() == HEADER + b"one\n"
    file.append(b"two\n")
    assert (tmp_path / "a.jsonl").read_bytes() == HEADER + b"one\n" + HEADER + b"two\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names here")
def test_what_is_no_file_is_neither_waited_for_nor_touched(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl", 0o644)
    log_file(tmp_path / "a.jsonl").append(b"one\n")
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o644
    assert beside(tmp_path).read_bytes() == HEADER + b"one\n"


def test_a_device_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="not a regular file"):
        log_file(Path(os.devnull)).append(b"one\n")


def beside(folder: Path) -> Path:
    """The file that a process writes if the log's own name is taken."""
    return folder / f"a.pid{os.getpid()}.jsonl"


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes a file look like one of another user."""
    lstat, fstat, stranger_files = os.lstat, os.fstat, set[int]()

    def foreign(status: os.stat_result) -> os.stat_result:
        if status.st_ino not in stranger_files:
            return status
        return os.stat_result((*status[:4], status.st_uid + 1, *status[5:10]))

    monkeypatch.setattr(os, "lstat", lambda path: foreign(lstat(path)))
    monkeypatch.setattr(os, "fstat", lambda descriptor: foreign(fstat(descriptor)))
    yield lambda path: stranger_files.add(lstat(path).st_ino)


links = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")


@links
@pytest.mark.parametrize("target", ["missing", "empty", "log", "loop"])
def test_a_link_in_the_logs_place_is_not_followed(
    target: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, elsewhere = tmp_path / "logs", tmp_path / "elsewhere"
    folder.mkdir()
    contents = {"empty": b"", "log": HEADER}
    if target in contents:
        elsewhere.write_bytes(contents[target])
    (folder / "a.jsonl").symlink_to(folder / "a.jsonl" if target == "loop" else elsewhere)
    file = log_file(folder / "a.jsonl")
    file.append(b"one\n")
    file.append(b"two\n")
    assert beside(folder).read_bytes() == HEADER + b"one\ntwo\n"
    if target in contents:
        assert elsewhere.read_bytes() == contents[target]
    elif target == "missing":
        assert not elsewhere.exists()
    [message] = caplog.messages
    assert "a.jsonl is a symbolic link, which is not followed: its lines go to" in message


@links
def test_a_link_put_there_between_looking_and_opening_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, elsewhere = tmp_path / "a.jsonl", tmp_path / "elsewhere"
    place.write_bytes(HEADER)
    elsewhere.write_bytes(HEADER)
    lstat = os.lstat

    def swapped(path: Path) -> os.stat_result:
        found = lstat(path)
        if path == place and not place.is_symlink():
            place.unlink()
            place.symlink_to(elsewhere)
        return found

    monkeypatch.setattr(os, "lstat", swapped)
    with pytest.raises(OSError, match="symbolic links"):
        open_own(place)


@links
def test_a_file_with_two_names_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "other").touch(0o644)
    (tmp_path / "a.jsonl").hardlink_to(tmp_path / "other")
    log_file(tmp_path / "a.jsonl").append(b"one\n")
    assert (tmp_path / "other").read_bytes() == b""
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o644
    assert beside(tmp_path).exists()


@links
@pytest.mark.parametrize("name", ["a.jsonl", "a.pid1.jsonl", "a.pid{}.jsonl"])
def test_a_file_of_another_user_gets_no_line(
    name: str, tmp_path: Path, stranger: Callable[[Path], None]
) -> None:
    planted = tmp_path / name.format(os.getpid())
    planted.write_bytes(HEADER)
    stranger(planted)
    if name != "a.jsonl":
        # The log's own file is in use, so that this process looks for another one.
        others = log_file(tmp_path / "a.jsonl")
        others.append(b"one\n")
    log_file(tmp_path / "a.jsonl").append(b"two\n")
    assert planted.read_bytes() == HEADER
    written = [path for path in tmp_path.iterdir() if b"two" in path.read_bytes()]
    assert len(written) == 1


@links
def test_where_all_files_have_one_owner_they_are_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(HEADER)
    user = os.geteuid()
    # As on a network file system that maps all users to one.
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    log_file(tmp_path / "a.jsonl").append(b"one\n")
    assert (tmp_path / "a.jsonl").read_bytes() == HEADER + HEADER + b"one\n"


@links
def test_archives_of_others_and_of_the_future_neither_count_nor_go(
    tmp_path: Path, stranger: Callable[[Path], None]
) -> None:
    own = [tmp_path / f"a.2026010{day}T000000000000Z-1.jsonl.gz" for day in (1, 2)]
    planted = [tmp_path / f"a.2026020{day}T000000000000Z-1.jsonl.gz" for day in range(1, 6)]
    future = [tmp_path / f"a.9999010{day}T000000000000Z-1.jsonl.gz" for day in range(1, 6)]
    for path in (*own, *planted, *future):
        path.write_bytes(gzip.compress(HEADER))
    for path in planted:
        stranger(path)
    clock = Clock(1_772_323_200.0)  # 2026-03-01
    file = log_file(tmp_path / "a.jsonl", keep=2, clock=clock)
    file.append(b"one\n")
    assert file.tidy_up() == 0
    assert all(path.exists() for path in (*own, *planted, *future))
    # Of the archives of this user, the oldest goes as ever.
    oldest = tmp_path / "a.20250101T000000000000Z-1.jsonl.gz"
    oldest.write_bytes(gzip.compress(HEADER))
    again = log_file(tmp_path / "a.jsonl", keep=2, clock=clock)
    assert again.tidy_up() == 1
    assert not oldest.exists()


@links
def test_compressing_follows_no_link(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name, precious = "a.20200101T000000000000Z-1.jsonl", tmp_path / "precious"
    precious.write_bytes(b"data")
    (tmp_path / name).write_bytes(HEADER)
    (tmp_path / f"{name}.gz.part").symlink_to(precious)
    linked = tmp_path / "a.20200102T000000000000Z-1.jsonl"
    linked.symlink_to(precious)
    file = log_file(tmp_path / "a.jsonl")
    file.append(b"one\n")
    file.tidy_up()
    assert precious.read_bytes() == b"data"
    assert gzip.decompress((tmp_path / f"{name}.gz").read_bytes()) == HEADER
    assert linked.is_symlink()
    assert not caplog.messages


@links
def test_no_entry_of_the_folder_stops_the_log(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "a.pid1.jsonl").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "a.pid2.jsonl")
    (tmp_path / "a.pid3.jsonl").mkdir()
    (tmp_path / "a.pid4.jsonl").write_bytes(b"a diary")
    (tmp_path / "a.20200101T000000000000Z-1.jsonl").mkdir()
    (tmp_path / "a.20200101T000000000000Z-2.jsonl.gz").symlink_to("/dev/zero")
    file = log_file(tmp_path / "a.jsonl")
    file.append(b"one\n")
    assert file.tidy_up() == 0
    assert (tmp_path / "a.jsonl").read_bytes() == HEADER + b"one\n"
    assert files_of(tmp_path / "a.jsonl") == [
        tmp_path / "a.pid4.jsonl",
        tmp_path / "a.jsonl",
    ]


@links
def test_every_new_folder_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log_file(tmp_path / "new" / "sub" / "a.jsonl").append(b"one\n")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / "sub").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("content", [b'{"v": 1}\n', b'{"v":"x"}\n', b'{"v":1,"e":2}\n', b"\n"])
def test_json_of_others_is_no_log(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(FileExistsError, match="not a replay log"):
        log_file(tmp_path / "a.jsonl").append(b"one\n")
    assert (tmp_path / "a.jsonl").read_bytes() == content


@pytest.mark.parametrize("length", range(len('{"v":2,"event":"opened"')))
def test_a_log_whose_first_line_is_torn_goes_on(length: int, tmp_path: Path) -> None:
    begun = b'{"v":2,"event":"opened"'[:length]
    (tmp_path / "a.jsonl").write_bytes(begun)
    log_file(tmp_path / "a.jsonl").append(b"one\n")
    assert (tmp_path / "a.jsonl").read_bytes().endswith(HEADER + b"one\n")


# --- a disk that refuses ----------------------------------------------------------------------


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["full", "no permission", "folder is a file"])
def test_a_disk_that_refuses_is_one_warning_and_a_count_and_then_it_goes_on(
    trouble: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "logs"
    write, open_file = os.write, os.open
    is_in_trouble = True

    def refuse_write(descriptor: int, data: Any) -> int:
        if is_in_trouble and trouble == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    def refuse_open(path: Any, *arguments: Any) -> int:
        if is_in_trouble and trouble == "no permission" and "calls" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return open_file(path, *arguments)

    monkeypatch.setattr(os, "write", refuse_write)
    monkeypatch.setattr(os, "open", refuse_open)
    if trouble == "folder is a file":
        folder.write_text("in the way")
    caplog.set_level(logging.INFO, "ollama_otel")
    log = ReplayLog(folder / "calls.jsonl")
    client = Client(transport=FakeOllama().transport(), observers=[log])
    for _ in range(3):
        client.list()
    until(lambda: log.statistics.failed_writes >= 2)
    assert not log.flush(timeout=0.05)
    client.list()
    [warning] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "cannot be written" in warning.getMessage()
    assert str(folder) in warning.getMessage()
    is_in_trouble = False
    if trouble == "folder is a file":
        folder.unlink()
    assert log.flush()
    client.list()
    assert log.close()
    assert len(list(read(folder / "calls.jsonl"))) == 5
    assert log.statistics.dropped_lines == 0
    assert sum("written again" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.slow
def test_a_disk_that_never_comes_back_does_not_hold_up_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    log = ReplayLog(tmp_path / "file" / "calls.jsonl")
    Client(transport=FakeOllama().transport(), observers=[log]).list()
    began = time.monotonic()
    assert not log.close(timeout=0.3)
    assert time.monotonic() - began < 5
    # They are counted a moment before the warning.
    until(lambda: "2 lines of the replay log" in caplog.text)
    assert log.statistics.dropped_lines == 2


# --- many processes ---------------------------------------------------------------------------

WORKER = """
    import sys, time
    from ollama_otel import Client
    from ollama_otel.replay import ReplayLog
    from ollama_otel.testing import FakeOllama

    log = ReplayLog(sys.argv[1], bodies=True, max_size=20_000, keep=1000)
    client = Client(transport=FakeOllama().transport(), observers=[log])
    for number in range(50):
        client.chat("llama3.2", messages=[{"role": "user", "content": f"{sys.argv[2]} {number}"}])
        if number % 10 == 0:
            time.sleep(0.02)
"""


@pytest.mark.processes
def test_many_processes_write_into_one_folder_and_are_read_as_one_log(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(WORKER), str(tmp_path), str(name)])
        for name in range(4)
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    calls = list(read(tmp_path))
    asked = {call.request_body["messages"][0]["content"] for call in calls if call.request_body}
    assert asked == {f"{name} {number}" for name in range(4) for number in range(50)}
    assert len(calls) == 200
    ends = [call.start.started_at + call.record.duration * 1e9 for call in calls if call.record]
    # To within the moments that a busy machine takes between two steps.
    assert all(later > earlier - 1e9 for earlier, later in pairwise(ends))
    assert [call.id for call in read(tmp_path / "calls.jsonl")] == [call.id for call in calls]


@pytest.mark.processes
def test_kill_9_in_mid_stream_loses_no_finished_line(tmp_path: Path) -> None:
    """A dozen times here; `python -m tests.benchmarks.killed` does it a hundred times."""
    for round_number in range(12):
        outcome = kill_and_read(tmp_path / str(round_number), after=0.05 + 0.03 * round_number)
        assert outcome.lost == 0, outcome
        assert outcome.read >= outcome.told
