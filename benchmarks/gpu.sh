#!/usr/bin/env bash
# All that is measured on one GPU, in at most ten minutes and without a network, into one JSON file.
# Command: benchmarks/gpu.sh [OUT.json] [--tiny]
# PYTHON names another interpreter, one in which voxsweep's dependencies and a CUDA torch are.
set -euo pipefail
cd "$(dirname "$0")/.."
out=gpu.json
if [[ $# -gt 0 && $1 != --* ]]; then out=$1; shift; fi
export PYTHONPATH="$PWD:$PWD/benchmarks" OMP_NUM_THREADS=1
export MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_MMAP_THRESHOLD_=1073741824
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
exec "${PYTHON:-python}" benchmarks/gpu.py --out "$out" "$@"
