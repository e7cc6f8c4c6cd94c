"""What rendering did to the examples: counted while it happens, reported after, an error where it is too much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from trueup.errors import DataError

_NAMED = 5
"""How many examples a report names for each reason."""


@dataclass(frozen=True, slots=True)
class RenderReport:
    """Counts of one rendering pass: ``examples == kept + dropped + refused``; the ``truncated`` are among the kept."""

    examples: int
    kept: int
    tokens: int
    longest: int
    """Tokens of the longest example before any truncation of its completion."""
    max_length: int
    prompts_cut: int
    truncated: int
    dropped: dict[str, int]
    named: dict[str, tuple[str, ...]]
    """First dropped examples by reason."""
    seams: int
    """Examples in which a token straddled the end of the prompt."""
    special_text: int
    """Distinct texts that spell a special token; they were encoded as plain text."""
    windows: int
    """Further windows that long plain texts were cut into."""
    notes: tuple[str, ...]
    refused: dict[str, int] = field(default_factory=dict)
    """Rows that the chat template refuses, by reason, left out because bad rows are to be skipped."""
    unused: dict[str, int] = field(default_factory=dict)
    """What the chat template does not write, such as ``tool_calls``, and in how many distinct texts."""

    @property
    def lost_share(self) -> float:
        """Share of the examples that the template takes that were truncated or dropped."""
        used = self.examples - sum(self.refused.values())
        return (self.truncated + sum(self.dropped.values())) / used if used else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with ``lost_share``."""
        return asdict(self) | {"lost_share": self.lost_share}


class Tally:
    """A report in the making."""

    def __init__(self, examples: int, max_length: int, notes: tuple[str, ...]) -> None:
        self.examples = examples
        self.max_length = max_length
        self.notes = list(notes)
        self.chats = False
        """Whether any text is a chat."""
        self.kept = self.tokens = self.longest = self.prompts_cut = self.truncated = 0
        self.seams = self.special_text = self.windows = 0
        self.dropped: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        self.unused: dict[str, int] = {}
        self.named: dict[str, tuple[str, ...]] = {}

    def keep(self, prompt_cut: bool, truncated: bool, tokens: int) -> None:
        """Count an example that is used."""
        self.kept += 1
        self.prompts_cut += prompt_cut
        self.truncated += truncated
        self.tokens += tokens

    def drop(self, reason: str, name: str) -> None:
        """Count an example that cannot be used."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._name(reason, name)

    def refuse(self, reason: str, name: str) -> None:
        """Count an example that the chat template refuses."""
        self.refused[reason] = self.refused.get(reason, 0) + 1
        self._name(reason, name)

    def leave(self, unused: Iterable[str], name: str) -> None:
        """Count what the chat template does not write of one text."""
        for key in unused:
            self.unused[key] = self.unused.get(key, 0) + 1
            self._name(key, name)

    def _name(self, reason: str, name: str) -> None:
        named = self.named.get(reason, ())
        if len(named) < _NAMED:
            self.named[reason] = (*named, name)

    def report(self, max_share: float) -> RenderReport:
        """Close the books.

        Raises:
            DataError: More than ``max_share`` of the examples were truncated or dropped, or none is left.
        """
        if self.seams:
            self.notes.append(
                f"in {self.seams} examples a token straddles the end of the prompt (often a prompt that ends with a"
                " space): the completion was encoded after the prompt's own tokens"
            )
        self.notes += self.losses()
        if self.special_text:
            self.notes.append(f"{self.special_text} texts spell a special token; it was encoded as plain text")
        report = RenderReport(
            self.examples,
            self.kept,
            self.tokens,
            self.longest,
            self.max_length,
            self.prompts_cut,
            self.truncated,
            dict(self.dropped),
            dict(self.named),
            self.seams,
            self.special_text,
            self.windows,
            tuple(self.notes),
            dict(self.refused),
            dict(self.unused),
        )
        if self.examples and not report.kept:
            raise self._none_left(report)
        if report.lost_share > max_share:
            raise self._too_much(report, max_share)
        return report

    def losses(self) -> list[str]:
        """What of the rows is not used, in sentences: rows that the template refuses, and what it does not write."""
        lines = [f"{count} rows left out: {why} ({self._first(why)})" for why, count in self.refused.items()]
        if self.unused:
            kinds = (f"{key} in {count} rows ({self._first(key)})" for key, count in self.unused.items())
            lines.append(f"not used by the chat template: {', '.join(kinds)}")
        return lines

    def _first(self, reason: str) -> str:
        named = self.named[reason]
        return named[0] if len(named) == 1 else f"first {named[0]}"

    def _none_left(self, report: RenderReport) -> DataError:
        reasons = self.refused | self.dropped
        parts = [f"{count}: {why}" for why, count in reasons.items()]
        return DataError(
            f"none of {self.examples} examples can be used: {'; '.join(parts)}",
            where=self._first(next(iter(reasons))).removeprefix("first "),
            expected="at least one conversation that the chat template takes"
            if self.refused
            else f"at least one example that fits into batch.max_length ({report.max_length} tokens)",
            fix="use another model, or mend the rows"
            if self.refused
            else f"the longest example has {report.longest} tokens: raise batch.max_length, set"
            " batch.max_prompt_length to keep the end of long prompts, or shorten the data",
        )

    def _too_much(self, report: RenderReport, max_share: float) -> DataError:
        parts = [f"{report.truncated} lose the end of a completion"] if report.truncated else []
        parts += [f"{n} are dropped: {why} ({', '.join(self.named[why])})" for why, n in report.dropped.items()]
        return DataError(
            f"{report.lost_share:.1%} of {report.examples} examples cannot be used whole: {'; '.join(parts)}",
            where="batch.max_length",
            expected=f"at most {max_share:.1%} (batch.max_truncated)",
            fix=f"the longest example has {report.longest} tokens and max_length is {report.max_length}: raise"
            " batch.max_length, shorten the data, or accept the loss with batch.max_truncated",
        )
