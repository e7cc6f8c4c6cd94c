"""trueup: true up a language model to what people prefer.

Importing this package is cheap: nothing heavy is loaded until something of it is used. ``__init__.pyi`` says what there
is; ``docs/python.md`` shows it.
"""

from importlib import import_module as _import
from typing import Any as _Any

__version__ = "0.1.0"

_HOMES = {
    "trueup.commands.api.runs": ("Columns", "Run", "recipes", "train"),
    "trueup.commands.api.mirroring": ("mirror",),
    "trueup.commands.api.models": ("LanguageModel", "Scorer", "open_policy", "open_reward"),
    "trueup.commands.api.evaluating": ("Evaluation", "evaluate", "read_people"),
    "trueup.commands.api.exploit": ("Draws", "RewardExploits", "exploit"),
    "trueup.commands.api.exporting": ("export_model",),
    "trueup.commands.api.hacking": ("RunHacking", "hacking"),
    "trueup.commands.api.comparing": ("RunComparison", "compare", "frontier", "sweep"),
    "trueup.commands.api.constitutional": ("ConstitutionalRounds", "constitution"),
    "trueup.commands.api.judging": ("judge",),
    "trueup.commands.api.sandboxed": ("write_sandbox",),
    "trueup.commands.api.scores": ("Scores", "leaning", "score"),
    "trueup.commands.frontier_pages": ("Frontier",),
    "trueup.commands.sweep_run": ("Sweep",),
    "trueup.config.code": ("register",),
    "trueup.data.read": (
        "read_demonstrations",
        "read_labelled",
        "read_pairs",
        "read_prompts",
        "read_ranked",
    ),
    "trueup.data.rated_formats": ("read_rated",),
    "trueup.errors": ("TrueupError",),
    "trueup.evaluation.exploits": ("Search",),
    "trueup.metrics": ("define_metric",),
    "trueup.types": ("Completion", "Demonstration", "Labelled", "Message", "PreferencePair", "Ranked", "Rated"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> _Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'trueup' has no attribute {name!r}")
    value = getattr(_import(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
