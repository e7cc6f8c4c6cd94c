"""What ``trueup quickstart`` does with data that an earlier walk left."""

import json

import pytest

from trueup.commands.sandbox_recipe import SMOKE
from trueup.commands.walkthrough import _FILES, quickstart
from trueup.errors import RunError


@pytest.fixture
def walk(tmp_path):
    """The data folder of a walk, as far as quickstart looks at it before the first stage."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in _FILES:
        (folder / name).write_text("x")
    world = {"files": {name: str(folder / name) for name in _FILES}, "facts": {}, "feedback": {"left_out": []}}
    (folder / "world.json").write_text(json.dumps(world | {"wanted": {}}))
    return folder


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", '{"files": {}, "facts": {}, "feedback": {"left_out": []}, "wanted": {}}']
)
def test_a_damaged_world_json_is_named_with_the_way_out(walk, content):
    (walk / "world.json").write_text(content)
    with pytest.raises(RunError, match="data cannot be used: it is damaged") as caught:
        quickstart(walk.parent, size=SMOKE, quiet=True)
    assert caught.value.where == str(walk / "world.json")
    assert f"move {walk} away" in caught.value.fix


def test_a_file_that_is_gone_is_named(walk):
    (walk / "pairs").unlink()
    with pytest.raises(RunError, match=r"files that it names are gone: .*pairs"):
        quickstart(walk.parent, size=SMOKE, quiet=True)
