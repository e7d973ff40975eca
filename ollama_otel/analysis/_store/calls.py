"""`Calls`: the table of all calls, independent of its storage."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from ollama_otel._log.reader import Skipped, log_files
from ollama_otel.analysis._store.cache import LogCache
from ollama_otel.analysis._store.columns import literal
from ollama_otel.analysis._store.engine import DuckEngine, Engine
from ollama_otel.analysis._store.log_import import import_log
from ollama_otel.analysis._store.progress import ImportProgress, Progress
from ollama_otel.errors import AnalysisError

__all__ = ["Calls", "open_log"]

_MEMORY: Final = "800MB"


class Calls:
    """A table with one row per call; `docs/analysis.md` lists its columns.

    A context manager: its exit frees files and memory.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        source: str,
        skipped: Sequence[Skipped] = (),
        close: Callable[[], object] = lambda: None,
        condition: str | None = None,
    ) -> None:
        self._engine = engine
        self._close = close
        self._condition = condition
        self.source = source
        """Name of the log or the database, for messages."""
        self.skipped: tuple[Skipped, ...] = tuple(skipped)
        """Parts of the log that could not be read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Free memory and files; further queries fail."""
        self._engine.close()
        self._close()

    def query(self, sql: str, **parameters: Any) -> Any:
        """Run SQL over the table `calls` and return a `pyarrow.Table`.

        Write DuckDB's dialect; `$name` stands for a parameter. These functions work on every
        engine: `exact_quantile(x, q)`, `time_bucket_of(time, seconds)`, `seconds_between(a, b)`,
        `tag(tags, 'name')`, `option_number(options, 'name')`, `count_if(condition)`. Raises
        `AnalysisError` for SQL that fails.
        """
        return self._engine.query(sql, parameters, self._condition)

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return what `query` returns as dictionaries, one per row."""
        rows: list[dict[str, Any]] = self.query(sql, **parameters).to_pylist()
        return rows

    def where(self, condition: str) -> Calls:
        """Return the calls for which a condition in SQL holds; they share this object's files."""
        joined = condition if self._condition is None else f"({self._condition}) AND ({condition})"
        return Calls(self._engine, source=self.source, skipped=self.skipped, condition=joined)

    def between(self, since: datetime | None = None, until: datetime | None = None) -> Calls:
        """Return the calls that began in a period: from `since`, before `until`.

        Times without a zone are in UTC.
        """
        conditions = []
        if since is not None:
            conditions.append(f"started_at >= {_time(since)}")
        if until is not None:
            conditions.append(f"started_at < {_time(until)}")
        return self.where(" AND ".join(conditions)) if conditions else self

    def __len__(self) -> int:
        count: int = self.rows("SELECT count(*) AS n FROM calls")[0]["n"]
        return count

    def period(self) -> tuple[datetime, datetime] | None:
        """Return when the first call began and the last one ended, in UTC; None without calls."""
        row = self.rows(
            "SELECT min(started_at) AS first, max(coalesce(ended_at, started_at)) AS last "
            "FROM calls"
        )[0]
        if row["first"] is None:
            return None
        return row["first"].replace(tzinfo=UTC), row["last"].replace(tzinfo=UTC)


def _time(time: datetime) -> str:
    if time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return f"CAST({literal(time.isoformat(sep=' '))} AS TIMESTAMP)"


def open_log(
    path: str | os.PathLike[str],
    *,
    cache: str | os.PathLike[str] | bool = True,
    progress: Progress | None = None,
) -> Calls:
    """Open a replay log: a file with its archived ones, a cassette, or a folder.

    The first time, its calls are written to Parquet files, which are used again until the log
    changes: beside the log, or in the user's cache folder if that cannot be written, or in the
    folder `cache`. They hold the facts of the calls, no bodies, and only this user can read them.
    With False they are deleted when the calls are closed. `progress` gets the finished share.

    Raises `ReplayLogError` if there is no log, or it is malformed, and `MissingExtraError` without
    the packages of the extra `analysis`.
    """
    log = Path(path)
    # Without a log there is nothing to keep, and no folder for it.
    log_files(log)
    if cache is False:
        folder = TemporaryDirectory(prefix="ollama-otel-analysis-")
        kept = LogCache(log, Path(folder.name))
        try:
            return _opened(log, kept, progress, folder.cleanup)
        except BaseException:
            folder.cleanup()
            raise
    kept = LogCache(log, None if cache is True else Path(cache))
    return _opened(log, kept, progress, lambda: None)


def _opened(
    log: Path, cache: LogCache, progress: Progress | None, close: Callable[[], object]
) -> Calls:
    # Taken before the import: if the log grows meanwhile, it is imported again the next time.
    source = cache.source()
    skipped = cache.find(source)
    if skipped is None:
        skipped = _imported(log, cache, source, progress)
    engine = DuckEngine(cache.parts(source))
    return Calls(engine, source=str(log), skipped=skipped, close=close)


def _imported(
    log: Path, cache: LogCache, source: str, progress: Progress | None
) -> tuple[Skipped, ...]:
    try:
        made = cache.begin()
    except OSError as error:
        raise AnalysisError(
            f"{cache.folder}: expected a folder for the imported calls that can be written, found "
            f"{error.strerror}: name another one as the cache"
        ) from error
    try:
        skipped = import_log(log, made, memory=_MEMORY, progress=ImportProgress(progress))
        cache.finish(made, source, skipped)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return skipped
