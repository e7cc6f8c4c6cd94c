"""The commands, as they are typed; the server's door; the accounts of imported people."""

import json
import subprocess
import sys

import pytest
from sqlalchemy import select

from tests.feedback.exchange.test_refusals import LABEL, RANK, ULTRA, small
from trueup.errors import DataError, UsageError
from trueup.feedback.exchange.formats import FORMATS, read_in, write_out
from trueup.feedback.exchange.landing import land
from trueup.feedback.store.accounts import change_person
from trueup.feedback.store.history import ImportedVote, import_judged
from trueup.feedback.store.projects import NewItem, add_person, add_template, create_project
from trueup.feedback.store.reading import read_project
from trueup.feedback.store.schema import person, project
from trueup.web.annotate.intake import read_items

ROWS = [
    {"prompt": "One?", "chosen": "yes", "rejected": "no", "annotator": "ada"},
    {"prompt": "One?", "chosen": "no", "rejected": "yes", "annotator": "bob"},
    {"prompt": "Two?", "chosen": "same", "rejected": "same"},
    {"prompt": "Three?", "chosen": "=1+1", "rejected": "two", "annotator": "ada", "split": "test"},
]


def trueup(*words):
    return subprocess.run(
        [sys.executable, "-m", "trueup", "feedback", *map(str, words)], capture_output=True, text=True, check=False
    )


def written(tmp_path, rows=ROWS):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.slow
def test_a_file_goes_in_and_comes_out_by_command(tmp_path):
    path, db, out = written(tmp_path), tmp_path / "f.db", tmp_path / "out.jsonl"
    words = ("import", path, "--db", db, "--project", "help", "--format", "preference")
    trial = trueup(*words, "--dry-run")
    assert trial.returncode == 0, trial.stderr
    assert "2 items, 3 answers, 2 new people, 1 refused; nothing was stored" in trial.stdout
    assert f"{path}:3: rejected: chosen and rejected are both 'same'" in trial.stderr
    assert not db.exists()
    done = trueup(*words)
    assert done.returncode == 0, done.stderr
    assert "2 items, 3 answers, 2 new people, 1 refused; project " in done.stdout
    told = trueup("export", "help", "--db", db, "--format", "judgments", "--out", out)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("5 rows in")
    found = read_in(out, "judgments")
    assert sorted((r.prompt, *r.responses) for r in found.rows) == [("One?", "no", "yes"), ("Three?", "=1+1", "two")]
    left = trueup("export", "help", "--db", db, "--format", "preference", "--out", tmp_path / "p.jsonl")
    assert "left out: 1 x a tie" in left.stdout
    again = trueup(*words)
    assert "0 new people" in again.stdout


def test_the_command_takes_the_format_from_the_columns_and_an_encoding_and_says_what_it_did_not_use(tmp_path):
    path, db = tmp_path / "table.csv", tmp_path / "f.db"
    path.write_bytes("prompt;chosen;rejected;source\nWie heißt das?;so;anders;web\n".encode("cp1252"))
    words = ("import", path, "--db", db, "--project", "p")
    refused = trueup(*words)
    assert refused.returncode == 2
    assert "0xdf" in refused.stderr
    assert "--encoding cp1252" in " ".join(refused.stderr.split())
    assert not db.exists()
    done = trueup(*words, "--encoding", "cp1252")
    assert done.returncode == 0, done.stderr
    assert "read as csv, by its columns" in done.stderr
    assert "not used: source (1 row)" in done.stderr
    assert "1 items, 1 answers" in done.stdout
    other = trueup(*words, "--encoding", "cp1252", "--format", "argilla")
    assert other.returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "none.jsonl", "--project", "p", "--format", "hh"), "cannot be read"),
        (("import", "none.jsonl", "--project", "p", "--format", "jh"), "did you mean 'hh'"),
        (("export", "p", "--db", "none.db", "--format", "hh", "--out", "x"), "there is no such file"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(words, said):
    done = trueup(*words)
    assert done.returncode == 2
    assert said in " ".join((done.stderr + done.stdout).split())


def test_a_file_without_one_good_row_fails(tmp_path):
    path = written(tmp_path, ROWS[2:3])
    done = trueup("import", path, "--db", tmp_path / "f.db", "--project", "p", "--format", "preference")
    assert done.returncode == 2
    assert f"{path}:1:" in done.stderr
    assert not (tmp_path / "f.db").exists()


def test_imported_people_are_marked_and_stay_out(store, tmp_path):
    landed = land(store, read_in(written(tmp_path), "preference"), "help")
    with store.read() as connection:
        people = connection.execute(select(person)).all()
    assert {row.handle.partition("/")[2] for row in people} == {"ada", "bob"}
    assert all(row.handle.startswith("imported:") and not row.active and row.password_hash is None for row in people)
    for change in ({"password": "a long enough password"}, {"active": True}, {"role": "admin"}):
        with pytest.raises(UsageError, match="only known from a file"):
            change_person(store, people[0].id, actor="admin", **change)
    with pytest.raises(UsageError, match="only known from a file"):
        add_person(store, "imported:eve", password_hash="x")
    assert len(read_project(store, landed.project).judgments) == 3


def test_a_prompt_of_another_split_is_refused_before_anything_is_stored(store, tmp_path):
    land(store, read_in(written(tmp_path), "preference"), "help")
    other = read_in(written(tmp_path, [ROWS[0], ROWS[3] | {"split": "train"}]), "preference")
    for dry_run in (True, False):
        with pytest.raises(DataError, match="one split for each prompt") as caught:
            land(store, other, "help", dry_run=dry_run)
        assert "line 2" in caught.value.where
    with store.read() as connection:
        held = connection.execute(select(project.c.id)).scalar_one()
    assert len(read_project(store, held).judgments) == 3


def test_a_dry_run_stores_nothing(store, tmp_path):
    done = land(store, read_in(written(tmp_path), "preference"), "help", dry_run=True)
    assert (done.answers, done.people, done.items) == (3, 2, ())
    with store.read() as connection:
        assert connection.execute(select(project)).first() is None
        assert connection.execute(select(person)).first() is None


def test_ratings_of_different_axes_are_asked_by_templates_of_their_own(store, tmp_path):
    path = tmp_path / "u.jsonl"
    told = [{"helpful": {"Rating": "4"}}, {"helpful": {"Rating": 2}, "honest": {"Rating": "10"}}, {}]
    completions = [{"response": f"r{n}", "annotations": one} for n, one in enumerate(told)]
    path.write_text(json.dumps({"instruction": "Q?", "completions": completions}))
    landed = land(store, read_in(path, "ultrafeedback"), "rated")
    judged = read_project(store, landed.project)
    assert [judged.items[name].responses[0].text for name in landed.items] == ["r0", "r1", "r2"]
    assert sorted(len(row.answer["scores"]) for row in judged.judgments) == [1, 2]


def test_one_record_rated_on_different_axes_is_an_item_for_each_set(store, tmp_path):
    path = tmp_path / "a.json"
    answers = {
        "helpful": [{"value": 4, "user_id": "u"}, {"value": 2, "user_id": "w"}],
        "wit": [{"value": 1, "user_id": "w"}],
    }
    path.write_text(json.dumps([{"fields": {"prompt": "Q?", "response": "a"}, "responses": answers}]))
    landed = land(store, read_in(path), "rated")
    judged = read_project(store, landed.project)
    assert sorted(sorted(row.answer["scores"]) for row in judged.judgments) == [["helpful"], ["helpful", "wit"]]
    assert len(landed.items) == 1


def test_skips_go_into_the_store_only_with_a_known_reason(store):
    made = create_project(store, "skips")
    template, who = add_template(store, made, "binary", "ok"), add_person(store, "ada")
    rows = [NewItem("Q?", ("a",))]
    with pytest.raises(DataError, match="skip_reason"):
        import_judged(store, template, rows, [ImportedVote(0, who, None, (), "2026-01-05T09:00:00.000000Z")])
    import_judged(
        store,
        template,
        rows,
        [ImportedVote(0, who, None, (), "2026-01-05T09:00:00.000000Z", skip_reason="other", surplus=True)],
    )
    (row,) = read_project(store, made).judgments
    assert (row.answer, row.skip_reason, row.surplus, row.shown) == (None, "other", True, ())


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"csv"}))
def test_the_server_takes_the_items_of_every_format(format, tmp_path):
    row = {"kto": LABEL, "ranking": RANK, "ultrafeedback": ULTRA}.get(format)
    data = json.dumps(row).encode() if row else write_out(small(), tmp_path / "out", format).path.read_bytes()
    read = read_items(data, format)
    assert len(read.items) == (2 if format == "ultrafeedback" else 1)
    assert read.lines[0] >= 1
    assert read.rejected == ()
    with pytest.raises(UsageError, match="known: argilla, csv"):
        read_items(data, "xml")
