"""Settings of a template, one strict model a task kind: a knob that does not act on a kind cannot be written for it.

Checked whenever settings are stored. A database may hold older ones that were not: those are read by ``stored``, which
overlooks a name that no model has, as before, and says of a value that cannot be meant which one it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trueup.errors import ConfigError, DataError, UsageError, nearest
from trueup.feedback.store.answers import KINDS, Critique, Kind, Pairwise, Redteam, Review, named_responses
from trueup.feedback.store.texts import check_value

MOST_POINTS = 2001
"""Points of one scale: the page shows a button for each."""

_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

Short: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class Quality(BaseModel):
    """Settings of a template under ``quality``."""

    model_config = _STRICT

    calibration: int = Field(0, ge=0)
    """Calibration items to answer before ordinary work; 0 asks for none."""
    pass_share: float = Field(0.0, ge=0, le=1)
    """Share of them to get right; of the last ones, where a lead has added more."""
    requalify: bool = False
    """Whether a new guideline version asks for calibration again: only answers given under it count then."""
    gold_every: int | None = Field(20, ge=2)
    """Judgments from one gold item to the next (5 %); null shows none."""
    repeat_every: int | None = Field(33, ge=2)
    """Judgments from one swapped repeat to the next (3 %); null shows none."""
    max_overlap: int | None = Field(None, ge=1)
    """Most judges of an open item; null keeps the overlap as it is. For ``pairwise`` and ``review``."""
    raise_above: float = Field(0.9, ge=0, le=1)
    """Entropy in bits of an item's votes, with one vote added to each side, above which another judge is asked."""


class TemplateSettings(BaseModel):
    """What every kind of task may have."""

    model_config = _STRICT

    min_seconds: float = Field(0, ge=0, le=3600)
    """Seconds that an item must be in front of the annotator before it can be submitted."""
    require_rationale: bool = False
    """Whether an answer needs a reason in words."""
    instruction: str = Field("", max_length=2000)
    """A line that stands above every item."""
    note_to_leads: str = Field("", max_length=2000)
    """A note that annotators never see."""
    quality: Quality | None = None
    """When calibration, gold and repeated items come; without it, items come in the order of the queue."""


class ReviewSettings(TemplateSettings):
    """A verdict on a revision."""

    allow_tie: bool = True
    """Whether "no difference" may be answered."""


class PairwiseSettings(ReviewSettings):
    """A verdict on a pair."""

    allow_both_bad: bool = True
    """Whether "both are bad" may be answered; it is a kind of tie."""

    @model_validator(mode="after")
    def _both_bad_is_a_tie(self) -> PairwiseSettings:
        if not self.allow_tie and self.allow_both_bad and "allow_both_bad" in self.model_fields_set:
            raise ValueError("allow_both_bad is true and allow_tie is false, but 'both bad' is a kind of tie")
        return self


class Axis(BaseModel):
    """One scale of a rating."""

    model_config = _STRICT

    name: str = Field(min_length=1, max_length=200)
    """Under which scores are stored."""
    low: int = Field(ge=-(10**9), le=10**9)
    """Lowest point."""
    high: int = Field(ge=-(10**9), le=10**9)
    """Highest point."""
    label: Short | None = None
    """What annotators read instead of the name."""
    labels: dict[str, Short] = Field(default_factory=dict)
    """Point, as text -> what it means."""
    low_label: Short | None = None
    """What the lowest point means."""
    high_label: Short | None = None
    """What the highest point means."""

    @model_validator(mode="after")
    def _has_points(self) -> Axis:
        if not 1 <= self.high - self.low < MOST_POINTS:
            raise ValueError(f"low is {self.low} and high is {self.high}: 2 to {MOST_POINTS} points, low before high")
        points = {str(point) for point in range(self.low, self.high + 1)} if self.labels else set()
        foreign = sorted(set(self.labels) - points)
        if foreign:
            raise ValueError(f"labels name the point {foreign[0]!r}, which is not among {self.low} to {self.high}")
        return self


class RatingSettings(TemplateSettings):
    """Points on each axis."""

    axes: list[Axis] = Field(min_length=1, max_length=50)
    """The scales, in the order shown."""

    @model_validator(mode="after")
    def _names_are_their_own(self) -> RatingSettings:
        _twice((axis.name for axis in self.axes), "axes", "name")
        return self


class CritiqueSettings(TemplateSettings):
    """Text on a response, with marked stretches."""

    tags: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field(default_factory=list, max_length=100)
    """What a stretch may be marked as; without any, annotators write their own."""

    @model_validator(mode="after")
    def _tags_are_their_own(self) -> CritiqueSettings:
        _twice(self.tags, "tags", "tag")
        return self


class RedteamSettings(TemplateSettings):
    """A prompt that makes a model misbehave."""

    categories: list[Annotated[str, Field(min_length=1, max_length=60)]] = Field(default_factory=list, max_length=100)
    """Kinds of harm to choose from; without any, annotators write their own."""

    @model_validator(mode="after")
    def _categories_are_their_own(self) -> RedteamSettings:
        _twice(self.categories, "categories", "category")
        return self


MODELS: Mapping[Kind, type[TemplateSettings]] = {
    "pairwise": PairwiseSettings,
    "ranking": TemplateSettings,
    "binary": TemplateSettings,
    "rating": RatingSettings,
    "critique": CritiqueSettings,
    "edit": TemplateSettings,
    "redteam": RedteamSettings,
    "review": ReviewSettings,
}
"""Task kind -> its settings."""

ROUTED = ("pairwise", "review")
"""Kinds whose items may get another judge: ``quality.max_overlap``."""


class SettingsError(UsageError, ConfigError):
    """Settings that cannot be stored; names the setting."""


class StoredSettingsError(UsageError):
    """Settings that a database holds and nothing can be done with: a lead has to mend them."""


def _twice(names: Iterable[str], field: str, what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if not name.strip():
            raise ValueError(f"{field}: a {what} is blank")
        if name in seen:
            raise ValueError(f"{field}: the {what} {name!r} is there twice")
        seen.add(name)


def check_settings(kind: str, config: Any) -> TemplateSettings:
    """The settings of a template of this kind.

    Raises:
        SettingsError: An unknown kind or setting, or a value that a setting cannot have; names it.
    """
    if kind not in KINDS:
        raise SettingsError(f"kind is {kind!r}"[:80], where="template.kind", expected=nearest(str(kind), KINDS))
    model = MODELS[kind]
    if not isinstance(config, Mapping):
        raise SettingsError(f"are {config!r}"[:80], where="template.config", expected="an object of settings")
    try:
        check_value(config, "template.config")
    except DataError as error:
        raise SettingsError(error.what, where=error.where, expected=error.expected, fix=error.fix) from None
    try:
        settings = model.model_validate(dict(config))
    except ValidationError as error:
        raise _named(error, model, kind) from None
    if settings.quality is not None and settings.quality.max_overlap is not None and kind not in ROUTED:
        raise SettingsError(
            f"does nothing for {kind} tasks",
            where="template.config.quality.max_overlap",
            expected=f"a kind whose votes are counted: {', '.join(ROUTED)}",
            fix="leave it out",
        )
    return settings


def stored(kind: str, config: Mapping[str, Any] | None, name: str) -> TemplateSettings:
    """Settings as a database holds them, of the template called ``name``. Names that no model has are overlooked.

    Raises:
        StoredSettingsError: A value cannot be meant; names template and setting.
    """
    settings: Any = {} if config is None else config
    try:
        return check_settings(
            kind, _known(MODELS[kind], dict(settings)) if kind in KINDS and isinstance(settings, Mapping) else settings
        )
    except SettingsError as error:
        raise StoredSettingsError(
            f"the template {name!r} has a setting that cannot be used: {error.where} {error.what}",
            where=error.where,
            expected=error.expected,
            fix="a lead mends it, under 'Import and export', 'Task templates'; answers are kept until then",
        ) from None


def settings_problem(kind: str, config: Mapping[str, Any] | None) -> str | None:
    """What is wrong with settings that a database holds, in one line, or None."""
    try:
        check_settings(kind, {} if config is None else config)
    except SettingsError as error:
        return " ".join(str(error).split())
    return None


def _known(model: type[BaseModel], config: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in config.items() if name in model.model_fields}
    if isinstance(values.get("quality"), Mapping):
        values["quality"] = _known(Quality, dict(values["quality"]))
    if isinstance(values.get("axes"), list):
        values["axes"] = [
            _known(Axis, dict(inner)) if isinstance(inner, Mapping) else inner for inner in values["axes"]
        ]
    return values


def _named(error: ValidationError, model: type[BaseModel], kind: str) -> SettingsError:
    # An unknown name explains a missing one better than the other way round.
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(("template.config", *(str(part) for part in first["loc"])))
    if first["type"] == "extra_forbidden":
        known = _fields(model, first["loc"][:-1])
        others = sorted(other for other in KINDS if first["loc"][0] in MODELS[other].model_fields)
        of = f"; {first['loc'][0]!r} is a setting of {', '.join(others)}" if others and len(first["loc"]) == 1 else ""
        return SettingsError(
            f"there is no setting {first['loc'][-1]!r} for {kind} tasks{of}"[:300],
            where=place[:200],
            expected=nearest(str(first["loc"][-1]), known),
        )
    names = [str(part) for part in first["loc"] if isinstance(part, str)]
    expected = _EXPECTED.get(names[-1]) if names else None
    if first["type"] == "missing":
        return SettingsError("is missing", where=place, expected=expected or _TYPES.get(first["type"], "a value"))
    what = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] != "value_error":
        what = what[:1].lower() + what[1:]
        expected = expected or _TYPES.get(first["type"], what)
        what = f"is {first['input']!r}"[:120]
    return SettingsError(what, where=place, expected=expected)


_TYPES = {
    "int_type": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "float_type": "a number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
}
"""What pydantic's errors of type want, in the words of JSON."""

_EXPECTED = {
    "axes": '[{"name": "helpful", "low": 1, "high": 5}]',
    "name": "a name of 1 to 200 characters",
    "labels": 'an object of points and texts, such as {"1": "poor", "5": "good"}',
    "tags": 'a list of texts, such as ["wrong", "unclear"]',
    "categories": 'a list of texts, such as ["fraud", "privacy"]',
    "min_seconds": "seconds, 0 to 3600",
    **dict.fromkeys(("require_rationale", "allow_tie", "allow_both_bad", "requalify"), "true or false"),
    **dict.fromkeys(("low", "high"), "a whole number, low before high"),
}


def _fields(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    inner: dict[str, type[BaseModel]] = {"quality": Quality, "axes": Axis}
    return sorted((inner.get(str(place[0]), model) if place else model).model_fields)


def scales(settings: TemplateSettings) -> dict[str, tuple[int, int]] | None:
    """Axis -> (lowest, highest) point, of rating settings; None of others."""
    return (
        {axis.name: (axis.low, axis.high) for axis in settings.axes} if isinstance(settings, RatingSettings) else None
    )


def check_allowed(answer: Any, settings: TemplateSettings, rationale: str | None = None) -> None:
    """Refuse an answer, as ``parse_answer`` gives it, that the settings do not allow.

    Args:
        answer: The answer.
        settings: Of its template.
        rationale: Why, in words; None where nobody is asked for it.

    Raises:
        DataError: Names the field.
    """
    tie = isinstance(answer, (Pairwise, Review)) and not named_responses(answer)
    if tie and isinstance(settings, ReviewSettings) and not settings.allow_tie:
        raise DataError("ties are not allowed here", where="answer", expected="one of the two responses")
    both_bad = isinstance(answer, Pairwise) and answer.both_bad
    if both_bad and isinstance(settings, PairwiseSettings) and not settings.allow_both_bad:
        raise DataError("'both bad' is not allowed here", where="answer.both_bad", expected="a tie, or a response")
    if isinstance(answer, Critique) and isinstance(settings, CritiqueSettings) and settings.tags:
        for number, span in enumerate(answer.spans):
            if span.tag not in settings.tags:
                where = f"answer.spans.{number}.tag"
                raise DataError(f"is {span.tag!r}", where=where, expected=nearest(span.tag, settings.tags))
    categories = settings.categories if isinstance(settings, RedteamSettings) else []
    if isinstance(answer, Redteam) and categories and answer.category not in categories:
        expected = nearest(answer.category, categories)
        raise DataError(f"is {answer.category!r}", where="answer.category", expected=expected)
    if settings.require_rationale and rationale is not None and not rationale.strip():
        raise DataError("is empty", where="rationale", expected="a reason in words: this template asks for one")


def check_change(kind: str, before: Mapping[str, Any] | None, after: TemplateSettings, answers: Iterable[Any]) -> None:
    """Refuse new settings under which answers that were given already would mean something else.

    Args:
        kind: Of the template.
        before: The settings until now, which may be beyond use.
        after: The new ones.
        answers: JSON forms of the answers given under the template.

    Raises:
        SettingsError: A scale would be another one than that of the answers.
    """
    new = scales(after)
    if new is None:
        return
    try:
        old = scales(stored(kind, before, ""))
    except StoredSettingsError:
        old = None
    for answer in answers:
        scores = answer["scores"]
        fits = set(scores) == set(new) and all(new[axis][0] <= point <= new[axis][1] for axis, point in scores.items())
        if not fits or (old is not None and old != new):
            raise SettingsError(
                "there are answers on another scale",
                where="template.config.axes",
                expected=f"the axes that people have rated: {', '.join(sorted(scores))}"
                + ("" if old is None else ", from and to the same points"),
                fix="make a new template for the new scale",
            )
