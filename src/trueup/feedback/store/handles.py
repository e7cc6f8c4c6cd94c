"""Which handles new accounts may have: printable ASCII, and none that can be taken for one that is there.

Handles of accounts that exist are left as they are; a new one is compared with all of them by its skeleton.
"""

from __future__ import annotations

import re
import unicodedata

from sqlalchemy import Connection, func, select

from trueup.errors import UsageError
from trueup.feedback.store.schema import person
from trueup.feedback.store.texts import check_value

IMPORTED = "imported:"
"""Handles of people who are only known from a file begin with this; such an account is never opened."""

LONGEST = 80
ALLOWED = re.compile(r"[!-~]+( [!-~]+)*")
FOREIGN = str.maketrans(
    "авеёзікмнорстухѕјԁԛԝһӏγαβεηικμνορτυχωɑɡıł",
    "abee3ikmhopctyxsjdqwhlyabenikmvoptuxwagil",
)
"""Small letters of Cyrillic, Greek and Latin that look like ASCII; only handles of older versions can hold them."""
ALIKE = (("rn", "m"), ("vv", "w"), ("0", "o"), ("1", "l"), ("i", "l"), ("|", "l"), ("5", "s"), ("$", "s"), ("@", "a"))
ONE_AT_A_TIME = 0x74727565
"""Advisory lock of PostgreSQL: two at once would each see that nobody is alike yet."""


def skeleton(handle: str) -> str:
    """What is left of a handle for the eye: no case, width, accent, mark or punctuation; look-alikes made one."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", handle).casefold()).translate(FOREIGN)
    for shape, letter in ALIKE:
        text = text.replace(shape, letter)
    return "".join(character for character in text if character.isalnum()) or handle


def check_handle(connection: Connection, handle: str) -> None:
    """Refuse a handle for a new account.

    Raises:
        UsageError: Characters that cannot be told apart or seen, or like one that is there.
    """
    if not ALLOWED.fullmatch(handle) or not any(map(str.isalnum, handle)):
        strange = next((c for c in handle if not " " <= c <= "~"), None)
        check_value(handle, "handle")
        raise UsageError(
            f"the handle {handle[:LONGEST]!r} " + (f"holds U+{ord(strange):04X}" if strange else "is of another form"),
            where="handle",
            expected=f"1 to {LONGEST} ASCII letters, digits and marks, no space at its ends and none doubled",
            fix="handles are for signing in only; spell it in ASCII",
        )
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(ONE_AT_A_TIME)))
    wanted = skeleton(handle)
    for known in connection.execute(select(person.c.handle)).scalars():
        if known == handle:
            raise UsageError(f"there is a person {handle!r} already", where="person")
        if not known.startswith(IMPORTED) and skeleton(known) == wanted:
            raise UsageError(
                f"the handle {handle!r} can be taken for {known!r}",
                where="handle",
                expected="one that differs in more than case, marks and look-alikes such as 0 and O",
                fix="choose another handle",
            )
