#!/bin/bash
# install_tool.sh v1: an environment beside the repository, with all that the competition's files need.
set -eu
[ "${1:-}" = v1 ] || { echo "expected v1, got ${1:-nothing}" >&2; exit 1; }
cd "$(dirname "$0")/../.."
python3 -m venv .venv
.venv/bin/python -m pip install -q -e '.[onnx]'
