"""The audit log: every change of consequence, each event hashed together with the one before it.

``record`` appends (see ``chain``), ``first_fault`` looks whether everything is as it was written (see ``integrity``).
"""

from __future__ import annotations

from sqlalchemy import Connection

from trueup.feedback.store import chain
from trueup.feedback.store.chain import record
from trueup.feedback.store.integrity import LogFault, inspect_all

__all__ = ["end_of_log", "first_fault", "record"]


def first_fault(connection: Connection) -> LogFault | None:
    """The first thing that is not as it was written: of the chain, the rows, the schema; None if all is whole."""
    faults = inspect_all(connection).faults
    return faults[0] if faults else None


def end_of_log(connection: Connection) -> tuple[int, str]:
    """Number of events and the hash of the last one: note it elsewhere, and a cut-off tail is seen as well."""
    return chain.count(connection), chain.chain_end(connection).hash
