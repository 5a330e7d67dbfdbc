"""What an API server would refuse: by the schemas of Kubernetes, by those of the operators, and by their CEL rules.

Custom resources are checked against the definitions (CRDs) of their operators: the structural schema by ``jsonschema``,
made strict, so that a key which the API server would drop in silence is an error; each rule of
``x-kubernetes-validations`` by an implementation of CEL. Rules that name ``oldSelf`` are evaluated where an earlier
state is given, as at an update. Everything else is checked against the schemas of a Kubernetes release, in their strict
form. Left out: default values that the API server fills in before it validates (no rule here reads one), and admission
webhooks.
"""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cel
import jsonschema
import kubernetes_validate
import pytest
import yaml

KUBERNETES = "1.37"
OWN = Path(__file__).parent / "definitions"
OPERATORS = ("ray.io", "monitoring.coreos.com")
# Words of a structural schema that are no JSON schema, or that are looked at by ``rules``.
EXTENSIONS = "x-kubernetes-"

Json = Any


class Rule(NamedTuple):
    """A CEL rule of a definition."""

    kind: str
    path: str
    """Of the value that it judges; ``[]`` stands for each item of a list."""
    rule: str
    message: str


@functools.cache
def definition(group: str, kind: str) -> Json:
    """The schema of a custom resource; the test is skipped where its definition is absent."""
    name = f"{group}_{kind.lower()}s.yaml"
    folders = [OWN, *([Path(os.environ["ASSAY_CRDS"])] if os.environ.get("ASSAY_CRDS") else [])]
    for folder in folders:
        if (folder / name).exists():
            # A megabyte: by libyaml, where it is there.
            crd = yaml.load((folder / name).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            (version,) = (version for version in crd["spec"]["versions"] if version["name"] == "v1")
            return version["schema"]["openAPIV3Schema"]
    pytest.skip(f"ASSAY_CRDS names no folder with {name}")


def strict(schema: Json) -> Json:
    """The JSON schema of a structural schema, which also refuses keys that the API server would drop."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: value for key, value in schema.items() if not key.startswith(EXTENSIONS) and key != "default"}
    if "properties" in made:
        made["properties"] = {key: strict(value) for key, value in made["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    if isinstance(made.get("additionalProperties"), dict):
        made["additionalProperties"] = strict(made["additionalProperties"])
    if "items" in made:
        made["items"] = strict(made["items"])
    return made


@functools.cache
def validator(group: str, kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(strict(definition(group, kind)))


def rules(group: str, kind: str) -> list[Rule]:
    """Every CEL rule of a definition."""

    def within(schema: Json, path: str) -> Iterator[Rule]:
        for stated in schema.get("x-kubernetes-validations", ()):
            yield Rule(kind, path, stated["rule"], stated["message"])
        for key, below in schema.get("properties", {}).items():
            yield from within(below, f"{path}.{key}")
        for word, sign in (("items", "[]"), ("additionalProperties", "{}")):
            if isinstance(schema.get(word), dict):
                yield from within(schema[word], path + sign)

    return list(within(definition(group, kind), ""))


def broken_rules(value: Json, schema: Json, old: Json = None, path: str = "") -> Iterator[str]:
    """The messages of all CEL rules that a value breaks, at any depth."""
    for stated in schema.get("x-kubernetes-validations", ()):
        named = {"self": value} | ({} if old is None else {"oldSelf": old})
        if ("oldSelf" in stated["rule"]) <= (old is not None) and cel.evaluate(stated["rule"], named) is not True:
            yield f"{path}: {stated['message']}"
    if isinstance(value, list):
        # Items of a list correspond to earlier ones only where it has keys; no rule here is below such a list.
        for place, item in enumerate(value):
            yield from broken_rules(item, schema.get("items", {}), None, f"{path}[{place}]")
    elif isinstance(value, dict):
        known, extra = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            below = known.get(key, extra if isinstance(extra, dict) else {})
            before = old.get(key) if isinstance(old, dict) else None
            yield from broken_rules(item, below, before, f"{path}.{key}")


def refusals(manifest: Json, old: Json = None) -> list[str]:
    """What an API server would say against a manifest, or against changing ``old`` to it; empty if nothing."""
    group = manifest["apiVersion"].partition("/")[0]
    if group not in OPERATORS:
        try:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            return [f"{'.'.join(str(step) for step in error.path)}: {error.message}"]
        return []
    errors = validator(group, manifest["kind"]).iter_errors(manifest)
    found = [f"{error.json_path}: {error.message}" for error in errors]
    return found + list(broken_rules(manifest, definition(group, manifest["kind"]), old))
