#!/bin/sh
# Locks what the image installs, by version and hash, in the versions of .venv: those that the tests ran with.
# k8s/lock.sh                                 writes k8s/requirements.lock
# k8s/lock.sh --index URL                     the same, with an index that has builds of torch for CPUs alone
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
installed=$(mktemp)
trap 'rm -f "$installed"' EXIT
"$python" -m pip freeze --exclude-editable | grep '^[A-Za-z0-9_.-]*==' >"$installed"
# Wheels alone: nothing that is downloaded runs while it is installed.
"$python" -m uv pip compile pyproject.toml k8s/requirements.in --extra encoder --extra onnx --extra skops \
  --constraints "$installed" --python-version 3.11 --python-platform x86_64-manylinux_2_28 --only-binary :all: \
  --generate-hashes --no-header --no-annotate --quiet --output-file k8s/requirements.lock "$@"
