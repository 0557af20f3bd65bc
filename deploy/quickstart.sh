#!/usr/bin/env bash
# From a fresh clone to a model under version control: sets up .venv, then trains a small real model,
# publishes two versions of it and gets the first one back, checking every step.
#
# Usage: deploy/quickstart.sh [--no-install] [FOLDER]
#   FOLDER         where the hub and all files go (default: quickstart, in this clone); made anew each time
#   --no-install   use the python and modelhub that are on PATH
set -euo pipefail

install=1 folder=
for argument; do
    case $argument in
        --no-install) install=0 ;;
        -*) sed -n 's/^# Usage/Usage/p' "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
        *) folder=$(realpath -m -- "$argument") ;;
    esac
done
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${folder:-quickstart}

fail() {
    echo "quickstart: $1" >&2
    exit 1
}

# Says what comes, shows the command, runs it, and keeps what it printed for `expect`.
step() {
    printf '\n%s\n$ %s\n' "$1" "$2"
    local status=0
    printed=$(eval "$2" 2>&1) || status=$?
    echo "$printed"
    ((status == 0)) || fail "that command ended with exit code $status"
}

expect() {
    [[ $printed == *"$1"* ]] || fail "expected to see '$1' there"
}

if [[ -e $folder && ! -e $folder/.made-by-quickstart ]]; then
    fail "$folder is there already and was not made by the quickstart; name another folder"
fi
if ((install)); then
    deploy/venv.sh quickstart
    export PATH="$PWD/.venv/bin:$PATH"
fi
rm -rf -- "$folder"
mkdir -p -- "$folder"
touch -- "$folder/.made-by-quickstart"
export MODELHUB_HOME=$folder/hub
at=$(printf %q "$folder") # as it is typed in a command

echo "A hub is where models live. This one is a folder, $MODELHUB_HOME,
and all files of this tour are beside it; your own hub (~/.modelhub) is not touched."

step "Train a network that reads handwritten digits, on half of the training images:" \
    "python deploy/digits.py train $at/digits"
first=${printed#accuracy }

step "Publish the folder as the first version of a model named vision.digits:" \
    "modelhub push vision.digits $at/digits -m 'first training' --metric accuracy=$first"
expect vision.digits@1

step "Fine-tune: go on from those weights with all training images:" \
    "python deploy/digits.py finetune $at/digits $at/finetuned"
second=${printed#accuracy }

step "Publish that as the next version:" \
    "modelhub push vision.digits $at/finetuned -m 'fine-tuned on all images' --metric accuracy=$second"
expect vision.digits@2

step "The model's history, newest first:" \
    "modelhub log vision.digits"
expect "first training"
expect "fine-tuned on all images"

step "Find it by what its card says, in English:" \
    "modelhub search handwritten digits"
expect vision.digits@2

step "... and in Chinese ('handwritten digits'):" \
    "modelhub search 手写数字"
expect vision.digits@2

step "What changed between the two versions:" \
    "modelhub diff vision.digits@1 vision.digits@2"
expect model.safetensors
expect metrics.accuracy

step "Get the first version back, by its number:" \
    "modelhub pull vision.digits@1 $at/pulled"

step "Compare it with what was published, byte by byte:" \
    "diff --recursive $at/digits $at/pulled && echo 'no difference'"
expect "no difference"

step "The weights that came back read digits exactly as well as those that were published ($first):" \
    "python deploy/digits.py accuracy $at/pulled"
[[ $printed == "accuracy $first" ]] || fail "expected accuracy $first there"

echo "
Done after $SECONDS s. To look around in this hub:
    cd $PWD"
((install)) && echo "    . .venv/bin/activate"
echo "    export MODELHUB_HOME=$MODELHUB_HOME
    modelhub ls
    modelhub show vision.digits
    modelhub --help"
