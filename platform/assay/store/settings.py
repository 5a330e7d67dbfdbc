"""The settings of a trial as a flat list of texts, ``key=value``, which an index can store once for many trials."""

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any


def settings_of(asked: Mapping[str, Any]) -> list[str]:
    """Returns the settings by which trials may differ: those of the recipe, the model, the seed and the split.

    Args:
        asked: the trial as it was asked for; see ``Store.asked``.

    Returns:
        Texts such as ``objective.epsilon=0.1``: a dotted key, as ``--set`` takes it within a recipe, and a JSON value.
        A setting that is None is left out.
    """
    flat = [
        *_flat("", asked.get("recipe", {})),
        *_flat("model", asked.get("model", {})),
        *_flat("seed", asked.get("seed")),
        *_flat("split.tested", asked.get("split", {}).get("tested")),
    ]
    # Most trials share most of these texts, and so the memory of one.
    return [sys.intern(f"{key}={json.dumps(value, sort_keys=True, ensure_ascii=False)}") for key, value in flat]


def parsed(setting: str) -> tuple[str, Any]:
    """Returns key and value of one text.

    Args:
        setting: as ``settings_of`` wrote it.

    Returns:
        The dotted key, and a number, a bool, a text or a list.
    """
    key, _, value = setting.partition("=")
    return key, json.loads(value)


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Returns the values below a key with their dotted keys."""
    if isinstance(value, Mapping):
        for inner, below in value.items():
            yield from _flat(f"{key}.{inner}" if key else inner, below)
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        # Methods in a row, such as treatments of the data: each by its name.
        for one in value:
            yield f"{key}.{one['name']}", True
            yield from _flat(f"{key}.{one['name']}", {name: below for name, below in one.items() if name != "name"})
    elif value is not None:
        yield key, value
