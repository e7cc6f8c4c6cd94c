"""Every task kind answered by keyboard alone, and the exact JSON that the pages post."""

from __future__ import annotations


def test_pairwise(room, visit):
    project, person = room.project(), room.person()
    room.item(project, "pairwise", "Why is the sky blue?", ("Rayleigh scattering.", "Because of the sea."))
    one = visit(person)
    seat = one.annotate(project)
    one.page.get_by_role("heading", name="Left").wait_for()
    sent = one.submitted("2", "Enter")
    left, right = (response["id"] for response in seat["responses"])
    assert sent.path == f"/items/{seat['item']}/judgments"
    assert sent.body["answer"] == {"kind": "pairwise", "preferred": left, "strength": 2, "both_bad": False}
    assert sent.body["shown"] == [left, right]
    assert sent.body["skip_reason"] is None
    assert sent.body["rationale"] == ""
    assert sent.body["active_ms"] >= 0
    assert sent.body["focus_lost"] == 0
    assert set(sent.body) == {"answer", "skip_reason", "rationale", "active_ms", "focus_lost", "shown"}
    assert 8 <= len(sent.headers["idempotency-key"]) <= 80
    assert sent.headers["x-csrf-token"]
    one.page.get_by_text("All done here").wait_for()
    assert room.judged(project)[0].answer["preferred"] == left
