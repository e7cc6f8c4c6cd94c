"""Every task kind answered by keyboard alone in a real browser, against the real server and store."""

import pytest

from trueup.feedback.store.projects import NewItem

PROMPT = "Why is the sky blue?"
GOOD, POOR = "Air scatters blue light the most.", "Because of the sea."
AXES = [{"name": "helpful", "low": 1, "high": 5}, {"name": "harmless", "low": 1, "high": 5}]


def begin(desk, visit, kind, responses, config=None, **more):
    """A person in front of one item: window, seat, project."""
    project, person = desk.project(), desk.person()
    desk.item(project, kind, PROMPT, responses, config, **more)
    one = visit(person)
    return one, one.annotate(project), project


def stored(desk, project):
    """The one judgment of a project."""
    (row,) = desk.judged(project)
    return row


def test_a_pairwise_answer_is_sent_with_the_order_shown_and_stored(desk, visit):
    one, seat, project = begin(desk, visit, "pairwise", (GOOD, POOR))
    one.page.get_by_role("heading", name="Left").wait_for()
    sent = one.submitted("2", "Enter")
    left, right = (response["id"] for response in seat["responses"])
    assert sent.path == f"/items/{seat['item']}/judgments"
    assert sent.body["shown"] == [left, right]
    assert set(sent.body) == {"answer", "skip_reason", "rationale", "active_ms", "focus_lost", "shown"}
    assert 8 <= len(sent.headers["idempotency-key"]) <= 80
    assert sent.headers["x-csrf-token"]
    one.page.get_by_text("All done here").wait_for()
    answer = stored(desk, project).answer
    assert (answer["preferred"], answer["strength"]) == (left, 2)


@pytest.mark.parametrize(
    ("key", "side", "strength", "bad"),
    [
        ("1", 0, 3, False),
        ("3", 0, 1, False),
        ("4", None, 0, False),
        ("5", 1, 1, False),
        ("7", 1, 3, False),
        ("0", None, 0, True),
    ],
)
def test_each_key_of_the_pairwise_scale_stores_its_side_and_strength(desk, visit, key, side, strength, bad):
    one, seat, project = begin(desk, visit, "pairwise", (GOOD, POOR))
    one.page.get_by_role("heading", name="Left").wait_for()
    one.submitted(key, "Enter")
    answer = stored(desk, project).answer
    preferred = None if side is None else seat["responses"][side]["id"]
    assert (answer["preferred"], answer["strength"], answer["both_bad"]) == (preferred, strength, bad)


def test_ranking_with_a_tie_and_one_left_out(desk, visit):
    one, seat, project = begin(desk, visit, "ranking", ("first", "second", "third", "fourth"))
    one.page.get_by_text("Best first").wait_for()
    one.press("3", "1", "2", "t")  # third; then first and second tied; fourth not ranked
    one.submitted("Enter")
    ids = [response["id"] for response in seat["responses"]]
    tiers = [sorted(tier) for tier in stored(desk, project).answer["tiers"]]
    assert tiers == [[ids[2]], sorted([ids[0], ids[1]])]


def test_ranking_moves_by_arrow_keys(desk, visit):
    one, seat, project = begin(desk, visit, "ranking", ("first", "second", "third"))
    one.page.get_by_text("Best first").wait_for()
    one.press("1", "2", "3", "Alt+ArrowUp")
    one.submitted("Enter")
    ids = [response["id"] for response in seat["responses"]]
    assert stored(desk, project).answer["tiers"] == [[ids[0]], [ids[2]], [ids[1]]]


def test_a_binary_answer_given_by_key_is_stored(desk, visit):
    one, seat, project = begin(desk, visit, "binary", (GOOD,))
    one.page.get_by_text("Is this response acceptable?").wait_for()
    one.submitted("n", "Enter")
    answer = stored(desk, project).answer
    assert (answer["response"], answer["acceptable"]) == (seat["responses"][0]["id"], False)


def test_rating_asks_for_every_axis(desk, visit):
    one, _, project = begin(desk, visit, "rating", (GOOD,), {"axes": AXES})
    one.page.get_by_text("harmless").first.wait_for()
    one.press("4", "Enter")
    one.page.get_by_text("Rate “harmless”.").wait_for()
    assert desk.judged(project) == ()
    one.submitted("5", "Enter")
    assert stored(desk, project).answer["scores"] == {"helpful": 4, "harmless": 5}


def test_critique_with_a_span_counted_in_code_points(desk, visit):
    one, _, project = begin(desk, visit, "critique", ("\U0001f600 blue sky",), {"tags": ["wrong", "unclear"]})
    one.page.get_by_text("Your critique").wait_for()
    one.press("v", "Home", "ArrowRight", "ArrowRight")  # past the emoji and the space
    one.press(*["Shift+ArrowRight"] * 4)
    one.press("c")
    one.page.get_by_role("heading", name="Mark this text").wait_for()
    one.press("Space")
    one.page.get_by_role("button", name="Mark", exact=True).press("Enter")
    one.page.get_by_text("Change").wait_for()
    one.press("e")
    one.page.keyboard.type("It says nothing.")
    one.submitted("Control+Enter")
    answer = stored(desk, project).answer
    assert answer["text"] == "It says nothing."
    (span,) = answer["spans"]
    assert (span["start"], span["end"], span["tag"]) == (2, 6, "wrong")


def test_an_edited_text_is_stored(desk, visit):
    one, _, project = begin(desk, visit, "edit", (POOR,))
    one.page.get_by_text("Your version").wait_for()
    one.press("e", "Control+End")
    one.page.keyboard.type(" No: of the air.")
    one.submitted("Control+Enter")
    assert stored(desk, project).answer["text"] == f"{POOR} No: of the air."


def test_a_red_team_prompt_with_its_category_is_stored(desk, visit):
    one, _, project = begin(desk, visit, "redteam", (), {"categories": ["fraud", "violence"]})
    one.page.get_by_text("Your prompt").wait_for()
    one.press("e")
    one.page.keyboard.type("How do I forge a ticket?")
    one.press("Tab", "Space")
    one.submitted("Control+Enter")
    answer = stored(desk, project).answer
    assert (answer["prompt"], answer["category"]) == ("How do I forge a ticket?", "fraud")


def test_review_of_a_constitutional_revision(desk, visit):
    one, seat, project = begin(
        desk, visit, "review", (POOR, GOOD), context={"principle": "Prefer what is true.", "critique": "It is false."}
    )
    one.page.get_by_text("Prefer what is true.").wait_for()
    one.submitted("3", "y", "Enter")
    answer = stored(desk, project).answer
    assert (answer["preferred"], answer["follows_principle"]) == (seat["responses"][1]["id"], True)


def test_skip_with_a_reason(desk, visit):
    one, _, project = begin(desk, visit, "pairwise", (GOOD, POOR))
    one.page.get_by_role("heading", name="Left").wait_for()
    one.press("s")
    one.page.get_by_role("dialog").wait_for()
    one.press("Space")
    one.submitted("Enter")
    row = stored(desk, project)
    assert row.answer is None
    assert row.skip_reason == "not_understood"


def test_undo_makes_a_second_revision(desk, visit):
    one, seat, project = begin(desk, visit, "pairwise", (GOOD, POOR))
    one.page.get_by_role("heading", name="Left").wait_for()
    one.submitted("1", "Enter")
    one.page.get_by_text("All done here").wait_for()
    one.press("u")
    one.page.get_by_role("heading", name="Left").wait_for()
    one.submitted("7", "Enter", ending="/supersede")
    row = stored(desk, project)
    assert row.revision == 2
    assert row.answer["preferred"] == seat["responses"][1]["id"]


def test_calibration_tells_right_from_wrong(desk, visit):
    one, seat, _ = begin(
        desk,
        visit,
        "pairwise",
        (GOOD, POOR),
        stream="calibration",
        gold={"preferred": 0, "strength": 2},
        explanation="Only one of them is about light.",
    )
    one.page.get_by_role("heading", name="Left").wait_for()
    wrong = "7" if seat["responses"][0]["text"] == GOOD else "1"
    one.submitted(wrong, "Enter")
    one.page.get_by_text("Only one of them is about light.").wait_for()


def test_a_guideline_is_read_before_the_first_item(desk, visit):
    project, person = desk.project(), desk.person()
    desk.guideline(project, "# Be fair\n\nRead *both* texts. <script>alert(1)</script>")
    desk.item(project, "pairwise", PROMPT, (GOOD, POOR))
    one = visit(person)
    assert one.annotate(project) is None
    one.page.get_by_role("heading", name="Be fair").wait_for()
    one.page.get_by_role("button", name="I have read it").press("Enter")
    one.page.get_by_role("heading", name="Left").wait_for()


def test_a_draft_outlives_a_reload(desk, visit):
    one, _, project = begin(desk, visit, "pairwise", (GOOD, POOR))
    one.page.get_by_role("heading", name="Left").wait_for()
    one.press("6", "r")
    one.page.keyboard.type("clearer")
    one.page.get_by_text("Draft saved").wait_for()
    one.page.reload()
    one.page.get_by_text("Draft restored").wait_for()
    one.submitted("Enter")
    assert stored(desk, project).rationale == "clearer"


def test_an_answer_given_offline_is_sent_later_with_the_same_key(desk, visit):
    one, _, project = begin(desk, visit, "pairwise", (GOOD, POOR))
    one.expected = ("ERR_INTERNET_DISCONNECTED", "Failed to load resource")
    one.page.get_by_role("heading", name="Left").wait_for()
    one.context.set_offline(True)
    one.press("2", "Enter")
    one.page.get_by_text("Your answer is safe on this device").wait_for()
    assert desk.judged(project) == ()
    one.context.set_offline(False)
    with one.page.expect_response(lambda reply: reply.url.endswith("/judgments")):
        one.page.get_by_role("button", name="Try now").press("Enter")
    one.page.get_by_text("All done here").wait_for()
    assert len({sent.headers["idempotency-key"] for sent in one.posts("/judgments")}) == 1
    assert len(desk.judged(project)) == 1


def test_a_swapped_pair_is_told_by_ids_and_generators_stay_hidden(desk, visit):
    project, person = desk.project(), desk.person()
    rows = [NewItem(f"{PROMPT} {n}", (GOOD, POOR), ("model-x", "model-y")) for n in range(3)]
    desk.items(project, "pairwise", rows)
    one = visit(person)
    seat = one.annotate(project)
    for n in range(3):
        one.page.get_by_role("heading", name="Left").wait_for()
        assert "model-x" not in one.page.content()
        good = next(r["id"] for r in seat["responses"] if r["text"] == GOOD)
        key = "1" if seat["responses"][0]["id"] == good else "7"
        with one.page.expect_response(lambda reply: reply.url.endswith("/next")) as waited:
            one.submitted(key, "Enter")
        seat = waited.value.json()["seat"]
        assert (seat is None) is (n == 2)
    texts = {r.id: r.text for i in desk_items(desk, project) for r in i.responses}
    assert [texts[row.answer["preferred"]] for row in desk.judged(project)] == [GOOD] * 3


def desk_items(desk, project):
    from trueup.feedback.store.reading import read_project

    return read_project(desk.store, project.id).items.values()
