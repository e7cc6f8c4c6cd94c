"""Accounts, for admins."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from trueup.feedback.store.accounts import change_person, hash_password
from trueup.feedback.store.projects import add_person
from trueup.feedback.store.schema import person
from trueup.feedback.workflow import dashboard
from trueup.feedback.workflow.summaries import PersonSummary
from trueup.web.annotate.paths import require
from trueup.web.shell.access import Admin, Body, Database

router = APIRouter()

Role = Literal["admin", "lead", "adjudicator", "annotator", "viewer"]


class NewPerson(Body):
    """An account to make; without a password nobody can sign in to it."""

    handle: Annotated[str, Field(min_length=1, max_length=80)]
    role: Role = "annotator"
    password: str | None = None


class PersonChange(Body):
    """What to change of an account."""

    active: bool | None = None
    role: Role | None = None
    password: str | None = None


@router.get("/people")
def list_people(store: Database, who: Admin) -> list[PersonSummary]:
    """Everybody."""
    return dashboard.people(store)


@router.post("/people", status_code=201)
def create_person(store: Database, who: Admin, body: NewPerson) -> PersonSummary:
    """A new account."""
    hashed = hash_password(body.password, body.handle) if body.password is not None else None
    person_id = add_person(store, body.handle, role=body.role, password_hash=hashed)
    return next(account for account in dashboard.people(store) if account.id == person_id)


@router.patch("/people/{person_id}")
def patch_person(store: Database, who: Admin, person_id: str, body: PersonChange) -> PersonSummary:
    """Change an account; its sessions end."""
    require(store, person, person_id)
    change_person(store, person_id, actor=who.pseudonym, active=body.active, role=body.role, password=body.password)
    return next(account for account in dashboard.people(store) if account.id == person_id)
