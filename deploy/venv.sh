#!/usr/bin/env bash
# Makes .venv in this clone and installs modelhub into it, editable, with the extras named by the one
# argument (as in "all,test"). Where that was done already it only looks. Needs Python 3.11 or later,
# found as python3 or named by $PYTHON; on Debian as root it installs a missing venv module itself.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
extras=$1

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

for python in ${PYTHON:-python3 python3.13 python3.12 python3.11} none; do
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break
done
[[ $python != none ]] || fail "modelhub needs Python 3.11 or later; found none as ${PYTHON:-python3}." \
    "Name it with PYTHON=/path/to/python3.11 and run this again."
# The interpreter itself, also where a virtual environment is active: it could be .venv.
python=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=$("$python" -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')
    if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
        fail "Python's venv module is missing. Install it and run this again:" \
            "    sudo apt-get install $package"
    fi
    echo "Installing $package ..." >&2
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >/dev/null
fi

# Installed scripts hold absolute paths, so an environment serves one place and one interpreter.
home="$PWD $python"
if [[ $(cat .venv/made-for 2>/dev/null) != "$home" ]]; then
    # Only an environment that was made here is cleared: another one may hold somebody's work.
    clear=$([[ -e .venv/made-for ]] && echo --clear || true)
    "$python" -m venv $clear .venv
    printf '%s\n' "$home" >.venv/made-for
fi

stamp=".venv/installed-$extras"
wanted=$(sha256sum <pyproject.toml)
if [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
    echo "Installing modelhub[$extras] into .venv (once, about half a minute) ..." >&2
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]" ||
        fail "pip could not install modelhub[$extras]; it needs a package index that it can reach."
    printf '%s\n' "$wanted" >"$stamp"
    echo "Installed after $SECONDS s." >&2
fi
