import pickle

import pytest

from trueup import errors


def test_message_names_place_expectation_and_fix():
    error = errors.DataError("strength is 1.4", where="pairs.jsonl:7", expected="[0.5, 1]", fix="divide by 2")
    assert str(error) == "pairs.jsonl:7: strength is 1.4\n  expected: [0.5, 1]\n  fix: divide by 2"


@pytest.mark.parametrize(
    ("kind", "builtin", "code"),
    [
        (errors.DataError, ValueError, 2),
        (errors.ConfigError, ValueError, 2),
        (errors.ModelError, ValueError, 2),
        (errors.RunError, RuntimeError, 1),
        (errors.CheckpointError, RuntimeError, 1),
        (errors.NonFiniteError, ArithmeticError, 1),
    ],
)
def test_family_is_also_the_builtin_a_caller_expects(kind, builtin, code):
    error = kind("x", where="here")
    assert isinstance(error, errors.TrueupError)
    assert isinstance(error, builtin)
    assert error.exit_code == code


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(errors.RunError("broken", where="runs/a", fix="retry")))
    assert isinstance(error, errors.RunError)
    assert (error.what, error.where, error.fix) == ("broken", "runs/a", "retry")


def test_nearest_suggests_the_close_name_and_lists_the_rest():
    assert errors.nearest("choosen", ["chosen", "rejected"]) == "did you mean 'chosen'? known: chosen, rejected"
    assert errors.nearest("zzz", ["a"]) == "known: a"
