#!/usr/bin/env bash
# Runs the fast tests on releases of torch, each in an environment of its own (up to 6 GB):
#   bash tests/releases.sh FOLDER RELEASE [RELEASE ...]        # PYTHON=python3.12 for another Python
# FOLDER keeps the environments and what the tests printed; docs/testing.md has what passed.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:?give a folder for the environments, and releases of torch}
shift
mkdir -p "$folder"
for release in "$@"; do
  environment=$folder/torch-$release
  if [ ! -e "$environment" ]; then
    "${PYTHON:-python3}" -m venv "$environment" &&
      "$environment/bin/pip" install --quiet "torch==$release" '.[test]' || { echo "torch $release: not installed"; continue; }
  fi
  # The compiler of one release cannot read what another one kept.
  TORCHINDUCTOR_CACHE_DIR=$folder/inductor-$release PATH=$environment/bin:$PATH \
    "$environment/bin/pytest" -q >"$folder/torch-$release.log" 2>&1
  echo "torch $release, $("$environment/bin/python" --version): $(tail -1 "$folder/torch-$release.log")"
done
