#!/bin/sh
# On a borrowed GPU machine that is gone when idle, in the root of the checkout: penalties, styles, operators and
# loaders.
# Ends within ten minutes. OUT is the folder that comes back; caches live as long as the machine does.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python3 -m bench gpu --call rest --out "${OUT:-bench/results/gpu-rest}" --cache "${CACHE:-${TMPDIR:-/tmp}/fastgan-caches}"
