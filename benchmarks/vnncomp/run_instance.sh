#!/bin/bash
# run_instance.sh v1 CATEGORY MODEL QUERY RESULTS SECONDS: the answer is written to RESULTS.
set -eu
[ "${1:-}" = v1 ] && [ $# -eq 6 ] || { echo "expected v1 CATEGORY MODEL QUERY RESULTS SECONDS" >&2; exit 1; }
model=$(realpath "$3") query=$(realpath "$4") results=$(realpath -m "$5")
cd "$(dirname "$0")/../.."
exec .venv/bin/python -m benchmarks.vnncomp.server ask "$2" "$model" "$query" "$results" "$6"
