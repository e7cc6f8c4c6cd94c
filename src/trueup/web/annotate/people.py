"""Accounts, for admins."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from trueup.feedback import desk
from trueup.feedback.accounts import change_person, hash_password
from trueup.feedback.projects import add_person
from trueup.feedback.schema import person
from trueup.web.annotate.access import Admin, Body, Database, require

router = APIRouter()

Role = Literal["admin", "lead", "adjudicator", "annotator", "viewer"]


class NewPerson(Body):
    """An account to make; without a password nobody can sign in to it."""

    handle: Annotated[str, Field(min_length=1, max_length=80, pattern=r"^\S(.*\S)?$")]
    role: Role = "annotator"
    password: str | None = None


class PersonChange(Body):
    """What to change of an account."""

    active: bool | None = None
    role: Role | None = None
    password: str | None = None


@router.get("/people")
def list_people(store: Database, who: Admin) -> list[dict[str, Any]]:
    """Everybody."""
    return desk.people(store)


@router.post("/people", status_code=201)
def create_person(store: Database, who: Admin, body: NewPerson) -> dict[str, Any]:
    """A new account."""
    hashed = hash_password(body.password) if body.password else None
    made = add_person(store, body.handle, role=body.role, password_hash=hashed)
    return next(row for row in desk.people(store) if row["id"] == made)


@router.patch("/people/{person_id}")
def patch_person(store: Database, who: Admin, person_id: str, body: PersonChange) -> dict[str, Any]:
    """Change an account; its sessions end."""
    require(store, person, person_id)
    change_person(store, person_id, actor=who.pseudonym, active=body.active, role=body.role, password=body.password)
    return next(row for row in desk.people(store) if row["id"] == person_id)
