#!/bin/sh
# On a borrowed GPU machine that is gone when idle, in the root of the checkout: the main bars, what each rung adds, the
# tests, the main job, the tiles.
# Ends within ten minutes. OUT is the folder that comes back; caches live as long as the machine does.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python3 -m bench gpu --call bars --out "${OUT:-bench/results/gpu-bars}" --cache "${CACHE:-${TMPDIR:-/tmp}/fastgan-caches}"
