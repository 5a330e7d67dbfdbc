#!/bin/sh
# Downloads every wheel of k8s/requirements.lock, and refuses one whose hash is not that of the lock: for a site without the
# internet. Carry the folder there; k8s/build.sh uses it where it exists. About 4 GB, most of it CUDA's libraries.
# k8s/wheelhouse.sh [FOLDER] [LOCK]
set -eu
cd "$(dirname "$0")/.."
folder=${1:-wheelhouse}
lock=${2:-k8s/requirements.lock}
# The wheels are chosen for the Python that downloads them, and must be those of the image.
python=${PYTHON:-.venv/bin/python}
"$python" -c 'import platform, sys
sys.exit(0 if (sys.version_info[:2], platform.system(), platform.machine()) == ((3, 11), "Linux", "x86_64") else
    "k8s/wheelhouse.sh: needs Python 3.11 on Linux and x86-64, as the image has; set PYTHON to one")'
"$python" -m pip download --only-binary :all: --no-deps --require-hashes --requirement "$lock" --dest "$folder"
