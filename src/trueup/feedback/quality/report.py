"""The quality pages of a project: agreement, annotators, bias, disagreement, gold, overlap.

Only the main and hold-out streams speak of agreement; gold and attention items speak of annotators. What is undefined
is None with its reason in words, never NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from trueup.feedback.quality.agreement_report import agreement_report
from trueup.feedback.quality.bias_report import bias_report
from trueup.feedback.quality.disagreement import disagreement_report
from trueup.feedback.quality.gold_report import gold_report
from trueup.feedback.quality.overlap import overlap_report
from trueup.feedback.quality.people import annotator_report
from trueup.feedback.store.records import Judged


class Page(Protocol):
    """What a quality page gives."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""


PAGES: Mapping[str, Callable[[Judged], Page]] = {
    "agreement": agreement_report,
    "annotators": annotator_report,
    "bias": bias_report,
    "disagreement": disagreement_report,
    "gold": gold_report,
    "overlap": overlap_report,
}
"""Name of a quality page -> what makes it."""
