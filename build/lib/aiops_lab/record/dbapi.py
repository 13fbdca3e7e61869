"""What does a service ask of its database? `trace_connection` records statements as client spans.

trace_connection(connection) -> cursor() -> execute -> fetch ... fetch -> end of the span
a proxy                         a proxy     begins     time is added     no row left, or closed

Any connection of the Python Database API 2.0 will do: https://peps.python.org/pep-0249/
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from time import perf_counter_ns
from typing import Any

from aiops_lab.endpoints import EndpointNames
from aiops_lab.formats.statements import message_without_values, shape_of
from aiops_lab.record.recorder import MAX_ERROR, OpenSpan, Recorder, Sink, context_of_call

SYSTEMS = {
    "sqlite3": "sqlite",
    "psycopg": "postgresql",
    "psycopg2": "postgresql",
    "pg8000": "postgresql",
    "pymysql": "mysql",
    "MySQLdb": "mysql",
    "mysql": "mysql",
    "mariadb": "mariadb",
    "oracledb": "oracle.db",
    "pymssql": "microsoft.sql_server",
}
"""The database of each driver, as OpenTelemetry names it (``db.system.name``)."""

STATEMENTS = ("execute", "executemany", "executescript")

# Shared by all connections, because these come and go with the requests.
_names = EndpointNames()


def trace_connection(
    connection: Any, sink: Sink, service: str = "shop", *, peer: str | None = None
) -> Any:
    """Return a proxy of a database connection that records each statement as a client span.

    The proxy does what the connection does: errors come unchanged, attributes such as
    ``row_factory`` are read and set there. ``__wrapped__`` is the connection itself.

    The endpoint of a span is the statement without its values, as in ``SELECT * FROM orders WHERE
    id = ?``; neither values nor parameters are stored, and of the message of an error only what
    quotes none. The status is 200 or 500. The parent is the current request; outside of a request
    a statement starts a trace. ``commit`` and ``rollback`` are spans, too, but not where sqlite3
    has no transaction to end.

    The duration is the time spent in the driver: that of the call of ``execute``, and that of
    fetching its rows, because sqlite3 and others compute a row when it is fetched. What the caller
    does between two rows is not the database's time and does not count. The span reaches the sink
    when no row is left, or when the cursor is closed, dropped, or executes again.

    Parameters
    ----------
    connection
        A connection of a DB-API driver (sqlite3, psycopg, PyMySQL, ...), not an asynchronous one.
    sink, service
        As in `instrument`; the service is the caller.
    peer
        The name of the database in its spans. Default: the system, such as ``"sqlite"``, told by
        the driver. Name it where a service has two.

    Raises
    ------
    ValueError
        A parameter breaks its rule.

    Examples
    --------
    >>> import sqlite3
    >>> spans = []
    >>> connection = trace_connection(sqlite3.connect(":memory:"), spans.append)
    >>> connection.execute("SELECT 'Ann', ?", ["Bob"]).fetchall()
    [('Ann', 'Bob')]
    >>> spans[0].peer, spans[0].endpoint
    ('sqlite', 'SELECT ?, ?')
    """
    _must_be_connection(connection)
    if peer is not None and (not isinstance(peer, str) or peer == ""):
        raise ValueError(f"peer must be a non-empty text or None, got {peer!r}")
    recorder = Recorder(sink, service)
    recorder.names = _names
    return TracedConnection(connection, recorder, peer or _system_of(connection))


def _must_be_connection(connection: Any) -> None:
    calls = [getattr(connection, name, None) for name in ("cursor", "commit")]
    if not all(map(callable, calls)):
        rule = "must be a DB-API connection, with cursor() and commit()"
        raise ValueError(f"connection {rule}, got {type(connection).__name__}")
    if any(map(iscoroutinefunction, calls)):
        kind = type(connection).__name__
        raise ValueError(f"connection must not be asynchronous, got {kind}")


def _system_of(connection: Any) -> str:
    """Return the database of a driver, else the driver's name."""
    bases = [base.__module__.partition(".")[0] for base in type(connection).__mro__]
    known = [SYSTEMS[name] for name in bases if name in SYSTEMS]
    return known[0] if known else bases[0]


class _Statement(OpenSpan):
    """The span of one statement. It lasts as long as the calls that were made for it."""

    __slots__ = ("busy_ns", "process")

    def __init__(self, recorder: Recorder, peer: str, shape: str) -> None:
        endpoint = recorder.names.limit(peer, shape)
        super().__init__(recorder, endpoint, context_of_call(), "client", peer)
        self.status = 200
        self.busy_ns = 0
        self.process = os.getpid()

    def run(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Make a call for this statement, and add its time."""
        called = perf_counter_ns()
        try:
            return call(*args, **kwargs)
        except StopIteration:
            raise
        except BaseException as error:
            self.status = 500
            self.error = self.error or describe_without_values(error)
            raise
        finally:
            self.busy_ns += perf_counter_ns() - called

    def end(self) -> None:
        """Give the span to the sink; a copy of it in a forked process is left to the parent."""
        if self.process != os.getpid():
            self.ended = True
        if not self.ended:
            self.begun = perf_counter_ns() - self.busy_ns
            super().end()


class _Proxy:
    """An object that stands for another one, with all attributes of that."""

    __slots__ = ("__wrapped__",)

    # pandas and others ask isinstance(connection, sqlite3.Connection)
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__wrapped__)

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:  # a copy that is still empty
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__wrapped__.__reduce_ex__(protocol)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__wrapped__, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__wrapped__, name)

    def __dir__(self) -> list[str]:
        return dir(self.__wrapped__)

    def __repr__(self) -> str:
        return f"<traced {self.__wrapped__!r}>"


_OWN = ("__wrapped__", "_statement")

_set = object.__setattr__  # of the proxy itself


class TracedConnection(_Proxy):
    """A connection whose statements are recorded; made by `trace_connection`."""

    __slots__ = ("_recorder", "_peer")
    _recorder: Recorder
    _peer: str

    def __init__(self, connection: Any, recorder: Recorder, peer: str) -> None:
        _set(self, "__wrapped__", connection)
        _set(self, "_recorder", recorder)
        _set(self, "_peer", peer)

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if name not in STATEMENTS:
            return value

        # a shortcut of sqlite3 and others, which makes the cursor itself
        def execute(*args: Any, **kwargs: Any) -> Any:
            statement, found = self._run(_shape(args, kwargs), value, *args, **kwargs)
            return TracedCursor(found, self, statement)

        return execute

    def __enter__(self) -> Any:
        entered = self.__wrapped__.__enter__()
        return self if entered is self.__wrapped__ else entered

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        leave = self.__wrapped__.__exit__
        if not getattr(self.__wrapped__, "in_transaction", False):
            return leave(kind, error, trace)
        statement = "COMMIT" if kind is None else "ROLLBACK"
        return self._run_whole(statement, leave, kind, error, trace)

    def cursor(self, *args: Any, **kwargs: Any) -> TracedCursor:
        """Return a cursor whose statements are recorded."""
        return TracedCursor(self.__wrapped__.cursor(*args, **kwargs), self)

    def commit(self, *args: Any, **kwargs: Any) -> Any:
        """Commit, as a span."""
        return self._end_transaction("COMMIT", self.__wrapped__.commit, *args, **kwargs)

    def rollback(self, *args: Any, **kwargs: Any) -> Any:
        """Roll back, as a span."""
        return self._end_transaction("ROLLBACK", self.__wrapped__.rollback, *args, **kwargs)

    def _end_transaction(self, shape: str, call: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        if not getattr(self.__wrapped__, "in_transaction", True):
            return call(*args, **kw)
        return self._run_whole(shape, call, *args, **kw)

    def _run_whole(self, shape: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        statement, found = self._run(shape, call, *args, **kwargs)
        statement.end()
        return found

    def _run(
        self, shape: str, call: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> tuple[_Statement, Any]:
        """Return the span of a statement, and what its call returned; the rows are still to come.

        While the call lasts the span can be seen among the open ones.
        """
        statement = _Statement(self._recorder, self._peer, shape)
        statement.show()
        try:
            found = statement.run(call, *args, **kwargs)
        except BaseException:
            statement.end()
            raise
        self._recorder.opened.pop(statement.span_id, None)
        return statement, found


class TracedCursor(_Proxy):
    """A cursor whose statements are recorded, one at a time."""

    __slots__ = ("connection", "_statement")
    connection: TracedConnection
    _statement: _Statement | None

    def __init__(
        self, cursor: Any, connection: TracedConnection, statement: _Statement | None = None
    ) -> None:
        _set(self, "__wrapped__", cursor)
        _set(self, "connection", connection)
        _set(self, "_statement", statement)
        self._end_without_rows()

    def __getattr__(self, name: str) -> Any:
        value = super().__getattr__(name)
        if name == "callproc":
            return self._executing(value, lambda text: f"CALL {text}")
        return self._executing(value, str) if name in STATEMENTS else value

    def __enter__(self) -> Any:
        entered = self.__wrapped__.__enter__()
        return self if entered is self.__wrapped__ else entered

    def __exit__(self, *error: Any) -> Any:
        self._end()
        return self.__wrapped__.__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._fetch(self.__wrapped__.__next__)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._end()

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        row = self._fetch(self.__wrapped__.fetchone)
        if row is None:
            self._end()
        return row

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Return the next rows, an empty list at the end."""
        rows = self._fetch(self.__wrapped__.fetchmany, *args, **kwargs)
        if not rows:
            self._end()
        return rows

    def fetchall(self) -> Any:
        """Return all rows that are left."""
        rows = self._fetch(self.__wrapped__.fetchall)
        self._end()
        return rows

    def close(self) -> Any:
        """Close the cursor."""
        self._end()
        return self.__wrapped__.close()

    def _executing(self, call: Callable[..., Any], name: Callable[[str], str]) -> Any:
        def execute(*args: Any, **kwargs: Any) -> Any:
            self._end()
            run = self.connection._run
            statement, found = run(name(_shape(args, kwargs)), call, *args, **kwargs)
            _set(self, "_statement", statement)
            self._end_without_rows()
            return self if found is self.__wrapped__ else found

        return execute

    def _fetch(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        statement = self._statement
        if statement is None:
            return call(*args, **kwargs)
        try:
            return statement.run(call, *args, **kwargs)
        except BaseException:  # StopIteration, too: no row is left
            self._end()
            raise

    def _end_without_rows(self) -> None:
        if getattr(self.__wrapped__, "description", None) is None:
            self._end()

    def _end(self) -> None:
        statement = self._statement
        if statement is not None:
            _set(self, "_statement", None)
            statement.end()


def _shape(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return the shape of the statement in the arguments of a call."""
    statement = args[0] if args else next(iter(kwargs.values()), "")
    if isinstance(statement, (bytes, bytearray)):
        statement = statement.decode("utf-8", "replace")
    if not isinstance(statement, str):  # psycopg's Composed: its text needs the connection
        return f"({type(statement).__name__})"
    return shape_of(statement) or "(empty)"


def describe_without_values(error: BaseException) -> str:
    """Return "TypeName: message", without the values that the message quotes."""
    try:
        message = message_without_values(str(error))
    except Exception:
        message = "(no text)"
    message = message.encode("utf-8", "replace").decode()
    return f"{type(error).__name__}: {message}"[:MAX_ERROR]
