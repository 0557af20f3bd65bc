#!/usr/bin/env bash
# Sets up .venv in this clone, checks format, lint, types and layers, then runs the tests: the CI tier
# (30 minutes at most on 2 cores), or with --full every test at its full bounds. Meanwhile it starts
# real HDFS, HBase and Elasticsearch servers for them (deploy/stack), and ends those afterwards.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

export MODELHUB_TIER=ci
while (($#)); do
    case $1 in
        --full) MODELHUB_TIER=full ;;
        --) shift && break ;;
        *) echo "Usage: tests/run.sh [--full] [-- PYTEST-ARGUMENT...]" >&2 && exit 2 ;;
    esac
    shift
done

deploy/venv.sh all,test
export PATH="$PWD/.venv/bin:$PATH"

python -m tests.live.stack up &
servers=$!
trap 'python -m tests.live.stack wipe' EXIT

check() {
    echo "== $*" >&2
    "$@"
}
check ruff format --check --quiet .
check ruff check --quiet .
check mypy
check lint-imports --no-logo --no-cache
echo "== checks passed after $SECONDS s; tests of the $MODELHUB_TIER tier follow" >&2
wait $servers
pytest --numprocesses 2 --dist worksteal --durations 15 "$@"
