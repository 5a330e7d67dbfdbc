"""Example texts with the value of each word, for readers."""

from dataclasses import dataclass

from assay.report.figures.explanation_examples import by_method
from assay.report.figures.explanation_scale import colour_of
from assay.report.view import View

_PALE = 0.6
"""Share of the scale of colours that is used behind words, so that they can be read."""


@dataclass(frozen=True, kw_only=True)
class ShownWord:
    """A word with its value."""

    text: str
    value: float
    colour: str
    """Of its background."""
    strong: str
    """``+`` or ``−`` of words with at least half of the value at which colours end; else empty."""


@dataclass(frozen=True, kw_only=True)
class ShownText:
    """A text with the map of one method."""

    title: str
    answer: str
    words: tuple[ShownWord, ...]


@dataclass(frozen=True, kw_only=True)
class TextGallery:
    """Texts by method, whose values share a unit."""

    unit: str
    limit: float
    texts: tuple[ShownText, ...]


def text_galleries(view: View) -> tuple[TextGallery, ...]:
    """Returns example texts with the maps of one recipe.

    Args:
        view: of the cohort.

    Returns:
        One gallery for each unit; none for other records, or where not everybody may publish these texts.
    """
    if view.dataset.modality != "text":
        return ()
    found = []
    for log_odds in (True, False):
        gallery = by_method(view, log_odds=log_odds)
        if gallery is None:
            continue
        limit = gallery.limit or 1.0
        texts = []
        for record in range(len(gallery.shown[0].maps)):
            for one in gallery.shown:
                texts.append(
                    ShownText(
                        title=one.label,
                        answer=one.answers[record],
                        words=tuple(
                            ShownWord(
                                text=word,
                                value=float(value),
                                colour=colour_of(_PALE * min(1.0, max(-1.0, float(value) / limit))),
                                strong="" if abs(value) < limit / 2 else "+" if value > 0 else "−",
                            )
                            for word, value in zip(one.kept["records"]["words"][record], one.maps[record], strict=False)
                        ),
                    )
                )
        found.append(TextGallery(unit=gallery.unit, limit=limit, texts=tuple(texts)))
    return tuple(found)
