#!/usr/bin/env bash
# Makes an environment in which `python -m bench cuda-code` works, in a folder of its own: torch for CUDA, which needs no GPU to be installed (5 GB).
#   bash bench/cuda_code/environment.sh FOLDER [RELEASE OF TORCH]
set -euo pipefail
folder=${1:?give a folder that is not there yet}
release=${2:-2.11.0}
if [ -e "$folder" ]; then echo "$folder is there already" >&2; exit 2; fi
python3 -m venv "$folder"
# Indexes and folders of wheels that a machine may have set up for CPU builds are left aside.
PIP_FIND_LINKS='' PIP_CONFIG_FILE=/dev/null "$folder/bin/pip" install --quiet "torch==$release" numpy pillow rich safetensors matplotlib pytest hypothesis
"$folder/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is None and f"torch {torch.__version__} came as a CPU build")'
echo "now: $folder/bin/python -m bench cuda-code --preset dcgan --batch-size 128 --resolution 64"
