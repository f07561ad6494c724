#!/bin/sh
# On a borrowed GPU machine that is gone when idle, in the root of the checkout: what works on this machine, where a
# step spends its time, which settings are the fastest.
# Ends within ten minutes. OUT is the folder that comes back; caches live as long as the machine does.
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python3 -m bench gpu --call diagnose --out "${OUT:-bench/results/gpu-diagnose}" --cache "${CACHE:-${TMPDIR:-/tmp}/fastgan-caches}"
