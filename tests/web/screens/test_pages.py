"""Pages for everybody else, hostile text, other scripts, zoom: looked at by a real browser."""

import json
import re
import zipfile
from pathlib import Path

import pytest

import trueup
from tests.web.conftest import PASSWORD
from tests.web.screens.conftest import expect
from tests.web.test_hostile import PAYLOADS
from trueup.feedback.exchange.formats import FORMATS as EXCHANGED
from trueup.feedback.quality.consensus import METHODS
from trueup.feedback.snapshot.candidates import FORMATS as EXPORTED
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import NewItem, add_template
from trueup.feedback.workflow.dashboard import templates_of
from trueup.web.annotate.intake import FORMATS as IMPORTED

AT = "2026-01-05T09:00:00.000000Z"


@pytest.fixture(scope="module")
def busy(desk):
    """A project with judgments, gold, disagreement and hostile texts; and a lead and an adjudicator."""
    project = desk.project("busy <img src=x onerror=alert(1)>")
    template = add_template(desk.store, project.id, "pairwise", "pairs")
    people = [desk.person().id for _ in range(3)]
    rows = [NewItem(f"{PAYLOADS[i % len(PAYLOADS)]} {i}", (f"good {i}", f"bad {i}"), ("m", "n")) for i in range(12)]
    rows.append(NewItem("Gold?", ("right", "wrong"), stream="gold", gold={"preferred": 0, "strength": 2}))
    votes = [
        ImportedVote(i, who, {"preferred": (i * n) % 2, "strength": 1 + n}, (n % 2, 1 - n % 2), AT, 9000, PAYLOADS[n])
        for i in range(13)
        for n, who in enumerate(people)
    ]
    import_judged(desk.store, template, rows, votes)
    return project, desk.person("lead"), desk.person("adjudicator"), desk.person("admin")


def test_every_tab_of_the_lead_shows_and_no_payload_runs(busy, visit):
    project, lead, _, _ = busy
    one = visit(lead)
    one.go(f"/lead/{project.id}")
    tabs = one.page.get_by_role("tab")
    tabs.first.wait_for()
    names = tabs.all_text_contents()
    assert len(names) >= 7
    for name in names:
        one.page.get_by_role("tab", name=name, exact=True).press("Enter")
        panel = one.page.get_by_role("tabpanel")
        expect(panel).not_to_contain_text("Loading", timeout=60_000)
        assert len(panel.inner_text().strip()) > 20, name
        assert one.page.evaluate("document.querySelectorAll('main script, main img, main iframe').length") == 0


def test_what_the_lead_must_see_stands_first(busy, visit):
    project, lead, _, _ = busy
    one = visit(lead)
    one.go(f"/lead/{project.id}")
    wanted = {
        "Agreement": ("Agreement", "What fewer judgments would have bought"),
        "Annotators": ("Worth a look", "Annotators"),
        "Bias": ("What stands out", "Side"),
        "Gold": ("Gold items",),
    }
    for name, headings in wanted.items():
        one.page.get_by_role("tab", name=name, exact=True).press("Enter")
        one.page.get_by_role("heading", name=headings[-1], exact=True).wait_for()
        shown = one.page.get_by_role("tabpanel").get_by_role("heading", level=2).all_text_contents()
        assert tuple(shown[: len(headings)]) == headings
    row = one.page.get_by_role("row").filter(has_text="Gold?")
    expect(row).to_contain_text("of 3")
    expect(row.get_by_role("button", name="Retire")).to_have_count(1)


def test_annotators_with_most_signs_stand_first(busy, visit):
    project, lead, _, _ = busy
    one = visit(lead)
    seen = {}

    def with_signs(route):
        reply = route.fetch()
        body = reply.json()
        for count, row in enumerate(body["annotators"]):  # the last has most
            row["signs"] = [f"sign {n}" for n in range(count)]
        seen["names"] = [row["annotator"] for row in body["annotators"]]
        route.fulfill(response=reply, json=body)

    one.page.route("**/quality/annotators", with_signs)
    one.go(f"/lead/{project.id}")
    one.page.get_by_role("tab", name="Annotators", exact=True).press("Enter")
    rows = one.page.get_by_role("table").get_by_role("row")
    rows.nth(1).wait_for()
    wanted = seen["names"][::-1]
    assert len(wanted) == 3
    assert [name in line for name, line in zip(wanted, rows.all_inner_texts()[1:], strict=True)] == [True] * 3
    one.go(f"/lead/{project.id}#exchange")
    one.page.reload()
    one.page.get_by_text("Settings", exact=True).press("Enter")
    group = one.page.get_by_role("group", name="Leave out annotators")
    group.get_by_role("checkbox").first.wait_for()
    shown = group.inner_text()
    assert sorted(wanted, key=shown.index) == wanted


def test_an_export_leaves_out_whom_the_lead_ticked(busy, visit):
    project, lead, _, _ = busy
    one = visit(lead)
    one.go(f"/lead/{project.id}#exchange")
    one.page.get_by_text("Settings", exact=True).press("Enter")
    one.page.get_by_label("Labels by").select_option("majority")
    box = one.page.get_by_role("group", name="Leave out annotators").get_by_role("checkbox").first
    box.check()
    one.page.get_by_label("Fewest votes of a pair").fill("0")
    one.page.get_by_role("button", name="Export", exact=True).press("Enter")
    assert not one.posts("/exports")  # 0 votes are too few to ask for
    one.page.get_by_label("Fewest votes of a pair").fill("2")
    with one.page.expect_download() as download:
        one.page.get_by_role("button", name="Export", exact=True).press("Enter")
        one.page.get_by_role("link", name="Download").press("Enter")
    (asked,) = [request.body for request in one.posts("/exports")]
    assert (asked["method"], asked["min_votes"], len(asked["drop_annotators"])) == ("majority", 2, 1)
    with zipfile.ZipFile(download.value.path()) as archive:
        card = json.loads(next(archive.read(name) for name in archive.namelist() if name.endswith("manifest.json")))
    assert card["filters"]["drop_annotators"] == asked["drop_annotators"]


def test_the_adjudicator_answers_blind_and_then_settles(busy, visit):
    project, _, adjudicator, _ = busy
    one = visit(adjudicator)
    one.go(f"/adjudicate/{project.id}")
    one.page.get_by_role("heading", name="Left").wait_for()
    assert "p-" not in one.page.locator("main").inner_text()  # nobody's answer before one's own
    one.submitted("2", "Enter", ending="/blind")
    one.page.get_by_text("ambiguous").or_(one.page.get_by_text("Ambiguous")).first.wait_for()


def test_the_admin_sees_people_tokens_and_the_audit_log(busy, visit):
    _, _, _, admin = busy
    one = visit(admin)
    one.go("/admin")
    tabs = one.page.get_by_role("tab")
    tabs.first.wait_for()
    for name in tabs.all_text_contents():
        one.page.get_by_role("tab", name=name, exact=True).press("Enter")
        one.page.wait_for_load_state("networkidle")
        expect(one.page.get_by_role("tabpanel")).to_have_text(re.compile(r"\S"), use_inner_text=True)


@pytest.mark.parametrize("place", ["prompt", "response"])
def test_no_payload_runs_in_front_of_an_annotator(desk, visit, place):
    project, person = desk.project(), desk.person()
    payloads = [payload.replace("\x00", "") for payload in PAYLOADS]  # NUL is refused at the door
    for n, payload in enumerate(payloads):
        texts = (f"{payload} a{n}", f"{payload} b{n}") if place == "response" else (f"a{n}", f"b{n}")
        desk.item(project, "pairwise", payload if place == "prompt" else f"Question {n}", texts)
    one = visit(person)
    one.annotate(project)
    for _ in range(len(payloads)):
        one.page.get_by_role("heading", name="Left").wait_for()
        made = one.page.evaluate("document.querySelectorAll('main script, main img, main iframe, main svg a').length")
        assert made == 0
        with one.page.expect_response(lambda reply: reply.url.endswith("/next")):
            one.submitted("4", "Enter")
    one.page.get_by_text("All done here").wait_for()


def test_hidden_characters_are_shown(desk, visit):
    project, person = desk.project(), desk.person()
    desk.item(project, "pairwise", "Which?", ("safe\u202etxt.exe", "zero\u200bwidth"))
    one = visit(person)
    one.annotate(project)
    one.page.get_by_role("heading", name="Left").wait_for()
    marks = one.page.locator("main .hidden-char")
    assert marks.count() == 2
    assert all(marks.evaluate_all("found => found.map(mark => mark.tagName === 'BDI' && mark.offsetWidth > 10)"))
    named = marks.evaluate_all("found => found.map(mark => mark.title)")
    assert sorted(named) == ["hidden character RLO", "hidden character ZWSP"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_right_to_left_long_text_and_zoom_lose_nothing(desk, visit, theme):
    project, person = desk.project(), desk.person()
    long = "A long answer goes on and on. " * 120
    desk.item(project, "pairwise", "لماذا السماء زرقاء؟", ("السماء زرقاء لأن الهواء يبعثر الضوء", long))
    one = visit(person, color_scheme=theme)
    one.page.set_viewport_size({"width": 640, "height": 450})  # 1280 x 900 at 200 %
    one.annotate(project)
    one.page.get_by_role("heading", name="Left").wait_for()
    wide = one.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0
    right_to_left = one.page.evaluate(
        "[...document.querySelectorAll('[dir=auto]')].filter(e => getComputedStyle(e).direction === 'rtl').length"
    )
    assert right_to_left >= 2
    one.page.get_by_role("button", name="Submit").scroll_into_view_if_needed()
    one.submitted("5", "Enter")


def test_keys_can_be_remapped(desk, visit):
    project, person = desk.project(), desk.person()
    desk.item(project, "binary", "Fine?", ("Yes.",))
    one = visit(person)
    one.annotate(project)
    one.page.get_by_text("Is this response acceptable?").wait_for()
    one.press("?")
    one.page.get_by_role("dialog").wait_for()
    assert "Acceptable" in one.page.get_by_role("dialog").inner_text() or "acceptable" in one.page.content()
    one.press("Escape")
    one.submitted("y", "Enter")


def test_signing_in_with_a_wrong_password_says_so(desk, visit):
    one = visit()
    one.expected = ("401",)
    one.go("/login")
    one.page.get_by_label("Handle").fill("nobody")
    one.page.get_by_label("Password").fill("wrong password here")
    one.press("Enter")
    one.page.get_by_role("alert").or_(one.page.get_by_text("wrong")).first.wait_for()


def test_the_page_offers_the_formats_that_the_server_takes():
    page = (Path(trueup.__file__).parent / "web/annotate/static/lead/exchange.js").read_text()
    for name, taken in (("IMPORTS", IMPORTED | dict(EXCHANGED)), ("EXPORTS", EXPORTED), ("METHODS", METHODS)):
        (offered,) = re.findall(rf"const {name} = (\[.*\]);", page)
        assert sorted(json.loads(offered)) == sorted(taken)


def test_a_lead_mends_settings_that_are_refused_with_their_name(desk, visit):
    project, lead = desk.project(), desk.person("lead")
    add_template(desk.store, project.id, "critique", "remarks", {"tags": ["wrong"]})
    one = visit(lead)
    one.expected = ("422",)
    one.go(f"/lead/{project.id}#exchange")
    one.page.get_by_role("button", name="Change settings of remarks").click()
    one.page.get_by_label("Settings (JSON)").last.fill('{"tgas": ["wrong", "rude"]}')
    one.page.get_by_role("button", name="Save").click()
    one.page.get_by_text("there is no setting 'tgas'").wait_for()
    expect(one.page.get_by_role("dialog")).to_contain_text("did you mean 'tags'")
    one.page.get_by_label("Settings (JSON)").last.fill('{"tags": ["wrong", "rude"]}')
    with one.page.expect_response(lambda reply: reply.request.method == "PATCH" and reply.ok):
        one.page.get_by_role("button", name="Save").click()
    (template,) = templates_of(desk.store, project.id)
    assert template.config == {"tags": ["wrong", "rude"]}


def test_a_password_is_changed_in_its_dialog(desk, visit):
    person, fresh = desk.person(), "purple lantern over gravel"
    one = visit(person)
    one.expected = ("422", "403")  # the browser's own lines on the refusals below
    one.page.get_by_role("button", name="Password", exact=True).click()
    dialog = one.page.get_by_role("dialog", name="Change your password")
    expect(dialog.get_by_label("Password of today")).to_be_focused()

    def fill(old, new, again):
        for label, value in (("Password of today", old), ("New password", new), ("New password again", again)):
            dialog.get_by_label(label, exact=True).fill(value)
        one.press("Enter")

    fill(PASSWORD, fresh, fresh + "s")
    expect(dialog.get_by_role("alert")).to_have_text("The two new passwords differ.")
    assert one.posts("/auth/password") == []
    fill(PASSWORD, "password1234", "password1234")
    expect(dialog.get_by_role("alert")).to_contain_text("common words")
    fill("not the one of today", fresh, fresh)
    expect(dialog.get_by_role("alert")).to_contain_text("not your password")
    fill(PASSWORD, fresh, fresh)
    expect(dialog).to_have_count(0)
    expect(one.page.get_by_text("Your password is changed.")).to_be_visible()
    assert [sent.body["new"] for sent in one.posts("/auth/password")] == ["password1234", fresh, fresh]
    one.page.context.clear_cookies()
    one.go("/login")
    one.page.get_by_label("Handle").fill(person.handle)
    one.page.get_by_label("Password").fill(fresh)
    one.press("Enter")
    one.page.get_by_role("heading", name="Projects").wait_for()


def test_the_password_dialog_closes_without_a_change(desk, visit):
    one = visit(desk.person())
    one.page.get_by_role("button", name="Password", exact=True).click()
    dialog = one.page.get_by_role("dialog", name="Change your password")
    dialog.get_by_label("Password of today").fill(PASSWORD)
    one.press("Escape")
    expect(dialog).to_have_count(0)
    one.page.get_by_role("button", name="Password", exact=True).click()
    expect(dialog.get_by_label("Password of today")).to_have_value("")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert one.posts("/auth/password") == []
