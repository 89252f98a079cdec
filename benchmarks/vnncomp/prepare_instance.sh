#!/bin/bash
# prepare_instance.sh v1 CATEGORY MODEL QUERY: the process that answers is started, if it does not run.
set -eu
[ "${1:-}" = v1 ] && [ $# -ge 4 ] || { echo "expected v1 CATEGORY MODEL QUERY" >&2; exit 1; }
[ -f "$3" ] && [ -f "$4" ] || { echo "there is no file $3 or $4" >&2; exit 1; }
cd "$(dirname "$0")/../.."
exec .venv/bin/python -m benchmarks.vnncomp.server start
