"""Projects for hypothesis: every kind of item and answer, hostile texts, repeats, skips, hidden streams."""

import json

from hypothesis import strategies as st

from trueup.data.splits import SPLITS
from trueup.feedback.snapshot.candidates import prompt_key
from trueup.feedback.snapshot.selection import split_of_prompts
from trueup.feedback.store.answers import KINDS, RESPONSES, SKIP_REASONS, parse_answer
from trueup.feedback.store.items import by_id
from trueup.feedback.store.records import ItemRow, Judged, JudgmentRow, ResponseRow
from trueup.types import Message, content_id, prompt_json

HOSTILE = [
    *(
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\tx",
        "\rx",
        "\nx",
        "'=1",
        "''@",
        "'plain",
        '=HYPERLINK("http://x","y")',
        '"',
        "a,b;c",
    ),
    *("\u2028line", "\u202egnirts", "\ufeffbom", "e\u0301", "\U0001f9d1\u200d\U0001f680", "\x85\x1f\x7f", "\\n\\u0000"),
    *(
        "\n\nHuman: me\n\nAssistant: you",
        "\n\nHuman:",
        "<script>alert(1)</script>",
        '[{"role": "user"}]',
        "N/A",
        "null",
    ),
    *("tie", "both_bad", "response_1", "left", "true", "1", " padded ", "line\r\nbreak\n\nend\r"),
]
plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
texts = st.one_of(st.sampled_from(HOSTILE), plain).filter(lambda text: bool(text.strip()))
turns = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), texts), max_size=2).map(
    lambda said: (*(Message(role, text) for role, text in said), Message("user", "and?"))
)
prompts = st.one_of(texts, turns)
people = st.sampled_from(["ada", "=bob", "Zoë", "p-1"])
PLACES = {"pairwise": 2, "review": 2, "redteam": 0, "ranking": 3}


def answers(kind, size):
    """An answer of this kind that speaks of places."""
    place = st.integers(0, max(0, size - 1))
    strength = st.integers(1, 3)
    tie = st.booleans().map(lambda bad: {"preferred": None, "strength": 0, "both_bad": bad})
    tiers = st.permutations(range(size)).flatmap(
        lambda order: st.sampled_from([[[one] for one in order], [list(order)], [[order[0]]] if order else []])
    )
    return {
        "pairwise": st.one_of(tie, st.builds(lambda p, s: {"preferred": p, "strength": s}, place, strength)),
        "ranking": tiers.map(lambda told: {"tiers": told}),
        "binary": st.booleans().map(lambda good: {"response": 0, "acceptable": good}),
        "rating": st.dictionaries(st.sampled_from(["helpful", "=honest"]), st.integers(1, 5), min_size=1).map(
            lambda scores: {"response": 0, "scores": scores}
        ),
        "critique": texts.map(
            lambda text: {"response": 0, "text": text, "spans": [{"start": 0, "end": 1, "tag": "t", "note": ""}]}
        ),
        "edit": texts.map(lambda text: {"response": 0, "text": text, "note": "=n"}),
        "redteam": texts.map(lambda text: {"prompt": text, "category": "c"}),
        "review": st.builds(
            lambda p, f: {"preferred": p, "follows_principle": f}, st.one_of(st.none(), place), st.booleans()
        ),
    }[kind]


@st.composite
def projects(draw, kinds=KINDS, skips=True):
    """A project of up to four items."""
    items, judgments = {}, []
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(kinds))
        size = PLACES.get(kind, 1)
        assert RESPONSES[kind][0] <= size <= RESPONSES[kind][1]
        said = draw(st.lists(texts, min_size=size, max_size=size, unique=True))
        name = f"i{number}"
        ids = [f"{name}-r{place}" for place in range(size)]
        prompt = draw(prompts)
        key = json.dumps(prompt_json(prompt), sort_keys=True)
        stream = draw(st.sampled_from(["main", "main", "holdout", "gold", "attention"]))
        gold = canonical(kind, draw(answers(kind, size)), ids) if stream == "gold" else None
        items[name] = ItemRow(
            name,
            kind,
            stream,
            SPLITS[int(content_id(key), 16) % 3],
            f"p-{content_id(key)}",
            prompt,
            tuple(ResponseRow(i, text, draw(st.sampled_from(["", "m"]))) for i, text in zip(ids, said, strict=True)),
            draw(st.sampled_from([None, "i0"])) if number else None,
            gold,
            draw(st.sampled_from([{}, {"topic": "=x"}])),
        )
        for who in draw(st.lists(people, unique=True, max_size=3)):
            skipped = skips and draw(st.integers(0, 4)) == 0
            judgments.append(
                JudgmentRow(
                    f"j-{name}-{who}",
                    name,
                    who,
                    None if skipped else canonical(kind, draw(answers(kind, size)), ids),
                    draw(st.sampled_from([(), tuple(ids), tuple(reversed(ids))])),
                    f"2026-01-31T12:00:{len(judgments):02d}.000001Z",
                    draw(st.sampled_from([None, 0, 1234])),
                    1,
                    draw(st.booleans()),
                    draw(st.booleans()),
                    draw(st.sampled_from(SKIP_REASONS)) if skipped else None,
                    draw(st.sampled_from(["", "=because", "a\nb"])),
                )
            )
    return Judged("small", items, tuple(judgments))


def canonical(kind, answer, ids):
    """An answer of places as the store holds it."""
    return parse_answer(by_id(answer, ids), kind=kind, responses=ids).model_dump(mode="json")


def told(judged, *, kinds=KINDS, streams=None, carried=()):
    """What a file should say of every answer, sorted; ``carried`` are fields beside what was asked and answered."""
    found = []
    splits = split_of_prompts(judged)
    for row in judged.judgments:
        item = judged.items[row.item]
        if item.kind not in kinds or (streams and item.stream not in streams):
            continue
        ids = [one.id for one in item.responses]
        split = "test" if item.stream == "holdout" and streams else item.split
        if streams and splits[prompt_key(item.prompt)] != split:
            continue  # a prompt in two splits stays in the one furthest from training
        rest = {
            "shown": [ids.index(name) for name in row.shown] or None,
            "made_at": row.created_at,
            "active_ms": row.active_ms,
            "rationale": row.rationale,
            "skip_reason": row.skip_reason,
            "surplus": row.surplus,
            "simulated": row.simulated,
            "stream": item.stream,
            "context": item.context,
            "gold": _texts(item.gold, item.kind, ids, item.responses),
        }
        found.append(
            _line(
                item.kind,
                item.prompt,
                [(one.text, one.generator) for one in item.responses],
                split,
                row.annotator,
                _texts(row.answer, item.kind, ids, item.responses),
                {name: rest[name] for name in carried},
            )
        )
    return sorted(found)


def heard(incoming, *, carried=()):
    """What was read, in the same words."""
    found = []
    for said in incoming.votes:
        row, kind = incoming.rows[said.item], incoming.kinds[said.item]
        ids = [str(place) for place in range(len(row.responses))]
        responses = [ResponseRow(i, text) for i, text in zip(ids, row.responses, strict=True)]

        def spelled(answer, kind=kind, ids=ids, responses=responses):
            return None if answer is None else _texts(canonical(kind, answer, ids), kind, ids, responses)

        rest = {name: getattr(said, name) for name in carried if hasattr(said, name)}
        rest |= {"stream": row.stream, "context": row.context, "gold": spelled(row.gold)}
        rest["shown"] = list(said.shown) if said.shown else None
        generators = (*row.generators, *("" for _ in row.responses))
        pairs = list(zip(row.responses, generators, strict=False))
        more = {name: rest[name] for name in carried}
        found.append(_line(kind, row.prompt, pairs, row.split, said.annotator, spelled(said.answer), more))
    return sorted(found)


def _texts(answer, kind, ids, responses):
    """The answer with texts instead of ids."""
    if answer is None:
        return None
    text = {one.id: one.text for one in responses}
    found = dict(answer)
    for name in ("preferred", "response"):
        if found.get(name) is not None:
            found[name] = text[found[name]]
    if "tiers" in found:
        found["tiers"] = [sorted(text[one] for one in tier) for tier in found["tiers"]]
    return found


def _line(kind, prompt, responses, split, annotator, answer, rest):
    return json.dumps([kind, prompt_json(prompt), responses, split, annotator, answer, rest], sort_keys=True)
