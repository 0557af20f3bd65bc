#!/usr/bin/env bash
# Installs what the benchmarks compare with: borg and restic by apt (as root), DVC into a virtual
# environment, FOLDER (default: ~/.local/share/modelhub-bench), whose path is printed for PATH.
set -euo pipefail

folder=${1:-$HOME/.local/share/modelhub-bench}
if ! { command -v borg && command -v restic; } >/dev/null; then
    if ((EUID)); then
        echo "borg and restic are missing: run this as root, or install them" >&2
        exit 1
    fi
    apt-get install --yes --no-install-recommends borgbackup restic >&2
fi
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet 'dvc>=3.67' >&2
mkdir -p "$folder/path"
ln -sf "$folder/bin/dvc" "$folder/path/dvc"
echo "$folder/path"
