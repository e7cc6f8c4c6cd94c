"""Answers on their way: one that the server does not take stops no other, and nothing is lost on the way."""

import json

import pytest

from trueup.feedback.store.projects import NewItem

JUDGMENTS = "**/api/v1/items/*/judgments"


def two_items(desk, visit):
    """A person in front of the first of two items."""
    project, person = desk.project(), desk.person()
    desk.items(project, "binary", [NewItem(f"Question {n}", (f"Answer {n}.",)) for n in range(2)])
    one = visit(person)
    one.expected = ("Failed to load resource", "ERR_FAILED", "ERR_INTERNET_DISCONNECTED")
    seat = one.annotate(project)
    one.page.get_by_text("Is this response acceptable?").wait_for()
    return one, seat, project


def refuse(page, item, status, said="a setting of the template is wrong"):
    """Let the server answer the judgments of one item with a problem."""
    body = json.dumps({"title": "no", "status": status, "detail": said})
    seen = []

    def answer(route):
        if f"/items/{item}/" not in route.request.url:
            return route.fallback()
        seen.append(route.request)
        return route.fulfill(status=status, body=body, content_type="application/problem+json")

    page.route(JUDGMENTS, answer)
    return seen, answer


def kept(page):
    """What this browser keeps of unsent answers."""
    found = page.evaluate(
        "Object.entries(localStorage).filter(([name]) => name.startsWith('trueup.outbox.')).map(([, text]) => text)"
    )
    return [json.loads(text) for text in found]


def look(page):
    page.get_by_role("button", name="Look at them").click()
    page.get_by_role("dialog").wait_for()
    return page.get_by_role("dialog")


@pytest.mark.parametrize("status", [409, 422, 500, 502])
def test_an_answer_that_fails_stops_no_other(desk, visit, status):
    one, seat, project = two_items(desk, visit)
    seen, _ = refuse(one.page, seat["item"], status)
    one.press("y", "Enter")
    named = "Next item" if status < 500 else "Go on with another item"
    one.page.get_by_role("button", name=named).wait_for()
    assert "a setting of the template is wrong" in one.page.locator("main").inner_text()
    other = desk.project()  # the same person's work in another project
    item = desk.item(other, "binary", "Elsewhere?", ("Yes.",))
    one.annotate(other)
    one.page.get_by_text("Is this response acceptable?").wait_for()
    with one.page.expect_response(lambda reply: f"/items/{item}/judgments" in reply.url and reply.ok):
        one.press("n", "Enter")
    one.page.get_by_text("All done here").wait_for()
    assert len(desk.judged(other)) == 1
    assert desk.judged(project) == ()
    assert len({request.headers["idempotency-key"] for request in seen}) == 1
    (left,) = kept(one.page)
    assert (left["path"], left["said"]["status"]) == (f"/items/{seat['item']}/judgments", status)


def test_what_the_server_said_stays_over_a_reload_until_the_person_decides(desk, visit):
    one, seat, project = two_items(desk, visit)
    _, route = refuse(one.page, seat["item"], 422, "tags: 'rude' is not one of them")
    one.press("y", "Enter")
    one.page.get_by_text("1 answer was not taken").wait_for()
    one.page.reload()
    one.page.get_by_text("1 answer was not taken").wait_for()
    dialog = look(one.page)
    assert "tags: 'rude' is not one of them" in dialog.inner_text()
    with one.page.expect_download() as waited:
        dialog.get_by_role("button", name="Download: answer").click()
    saved = json.loads(waited.value.path().read_text())
    assert (saved["answer"]["acceptable"], saved["path"]) == (True, f"/items/{seat['item']}/judgments")
    assert saved["server_said"] == "tags: 'rude' is not one of them"
    one.page.unroute(JUDGMENTS, route)
    dialog.get_by_role("button", name="Send again").click()
    one.page.get_by_text("Nothing is left").wait_for()
    assert kept(one.page) == []
    assert [row.answer["acceptable"] for row in desk.judged(project)] == [True]


def test_a_discarded_answer_is_gone_and_one_set_aside_is_not_sent(desk, visit):
    one, seat, project = two_items(desk, visit)
    seen, _ = refuse(one.page, seat["item"], 500)
    one.press("y", "Enter")
    one.page.get_by_text("1 answer was not taken").wait_for()
    dialog = look(one.page)
    dialog.get_by_role("button", name="Set aside").click()
    dialog.get_by_text("Set aside.").wait_for()
    count = len(seen)
    one.page.evaluate("window.dispatchEvent(new Event('online'))")
    one.page.wait_for_timeout(300)
    assert (len(seen), len(kept(one.page))) == (count, 1)
    dialog.get_by_role("button", name="Discard").click()
    dialog.get_by_text("Nothing is left").wait_for()
    assert kept(one.page) == []
    assert desk.judged(project) == ()


def test_an_answer_given_otherwise_takes_the_place_of_the_refused_one(desk, visit):
    one, seat, project = two_items(desk, visit)
    _, route = refuse(one.page, seat["item"], 422)
    one.press("y", "Enter")
    one.page.get_by_text("1 answer was not taken").wait_for()
    one.page.unroute(JUDGMENTS, route)
    with one.page.expect_response(lambda reply: reply.url.endswith("/judgments") and reply.ok):
        one.press("n", "Enter")
    one.page.get_by_text("1 answer was not taken").wait_for(state="hidden")
    assert kept(one.page) == []
    assert [row.answer["acceptable"] for row in desk.judged(project)] == [False]


def test_unsent_work_is_sent_by_the_next_page_that_opens_and_only_once(desk, visit):
    one, _, project = two_items(desk, visit)
    one.page.route(JUDGMENTS, lambda route: route.abort())
    one.press("y", "Enter")
    one.page.get_by_text("Your answer is safe on this device").wait_for()
    for _ in range(2):
        page = one.context.new_page()
        with page.expect_response(lambda reply: reply.url.endswith("/projects")):
            page.goto(one.desk.url + "/")
        page.get_by_role("heading", name="Projects").wait_for()
        page.wait_for_function("!Object.keys(localStorage).some(name => name.startsWith('trueup.outbox.'))")
    assert len(desk.judged(project)) == 1
    one.page.unroute_all()
    with one.page.expect_response(lambda reply: reply.url.endswith("/judgments") and reply.status == 200) as waited:
        one.page.get_by_role("button", name="Try now").click()
    assert waited.value.json()["replayed"] is True
    assert len(desk.judged(project)) == 1
    assert kept(one.page) == []


def test_what_is_pressed_while_an_answer_is_sent_belongs_to_no_item(desk, visit):
    one, seat, project = two_items(desk, visit)
    one.expected = ()
    waiting, open_gate = [], []

    def gate(route):
        route.continue_() if open_gate else waiting.append(route)

    one.page.route("**/api/v1/projects/*/next", gate)
    one.submitted("y", "Enter")
    one.press("n", "Enter", "s", "f", "u")
    assert one.page.get_by_role("dialog").count() == 0
    one.page.wait_for_timeout(1500)  # longer than a draft waits before it is sent
    assert waiting
    open_gate.append(True)
    for route in waiting:  # each by name: to take the gate away does not always let go what waits behind it
        route.continue_()
    one.page.get_by_text("Answer 0." if seat["prompt"] == "Question 1" else "Answer 1.").wait_for()
    one.submitted("n", "Enter")
    one.page.get_by_text("All done here").wait_for()
    assert [row.answer["acceptable"] for row in desk.judged(project)] == [True, False]
    assert not [sent for sent in one.sent if sent.path.endswith("/draft") and seat["item"] in sent.path]


def test_two_tabs_keep_each_others_work(desk, visit):
    one, _, project = two_items(desk, visit)
    other = desk.project()
    desk.item(other, "binary", "Elsewhere?", ("Yes.",))
    tab = one.context.new_page()
    tab.goto(one.desk.url + f"/annotate/{other.id}")
    tab.get_by_role("button", name="I agree").click()
    tab.get_by_text("Is this response acceptable?").wait_for()
    one.context.set_offline(True)
    for page in (one.page, tab):
        page.keyboard.press("y")
        page.keyboard.press("Enter")
        page.get_by_text("Your answer is safe on this device").wait_for()
    assert len(kept(one.page)) == 2
    one.context.set_offline(False)
    for page in (one.page, tab):
        page.evaluate("window.dispatchEvent(new Event('online'))")
    tab.get_by_text("All done here").wait_for()
    one.page.get_by_text("Is this response acceptable?").wait_for()
    assert (len(desk.judged(project)), len(desk.judged(other))) == (1, 1)
    assert kept(one.page) == []


def test_a_full_storage_loses_nothing_while_the_page_is_open(desk, visit):
    one, _, project = two_items(desk, visit)
    full = "() => { throw new DOMException('full', 'QuotaExceededError'); }"
    one.page.evaluate(f"() => {{ Storage.prototype.setItem = {full}; }}")
    one.context.set_offline(True)
    one.press("y", "Enter")
    one.page.get_by_text("Your answer is safe on this device").wait_for()
    one.page.get_by_text("This browser keeps nothing").wait_for()
    assert kept(one.page) == []
    leave = "const leave = new Event('beforeunload', { cancelable: true });"
    warned = f"() => {{ {leave} window.dispatchEvent(leave); return leave.defaultPrevented; }}"
    assert one.page.evaluate(warned) is True
    with one.page.expect_response(lambda reply: reply.url.endswith("/judgments") and reply.ok):
        one.context.set_offline(False)  # the browser tells the page
    one.page.get_by_text("Is this response acceptable?").wait_for()
    assert len(desk.judged(project)) == 1
    assert one.page.evaluate(warned) is False


def test_what_an_older_page_kept_in_one_list_is_sent(desk, visit):
    one, seat, project = two_items(desk, visit)
    ids = [response["id"] for response in seat["responses"]]
    answer = {"kind": "binary", "response": ids[0], "acceptable": False}
    body = {"answer": answer, "skip_reason": None, "rationale": "", "active_ms": 5, "focus_lost": 0, "shown": ids}
    entry = {"key": "0123456789abcdef", "path": f"/items/{seat['item']}/judgments", "body": body, "at": "2026-01-01"}
    one.page.evaluate(
        "([name, list]) => localStorage.setItem(name, JSON.stringify(list))",
        [f"trueup.outbox.{one.person.id}", [entry]],
    )
    with one.page.expect_response(lambda reply: reply.url.endswith("/judgments") and reply.ok):
        one.page.reload()
    one.page.get_by_text("All work is saved").wait_for()
    assert kept(one.page) == []
    assert len(desk.judged(project)) == 1
