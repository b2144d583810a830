#!/bin/sh
# What k8s/Dockerfile installs, as the Makefile does it: torch first and alone, then what the code
# needs, and the code last, so that a change of it leaves the layers before as they are.
set -eu
case "$1" in
torch)
    pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} --constraint constraints.txt torch
    ;;
needs)
    python - > /tmp/needs.txt <<'PYTHON'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
print("\n".join([*project["dependencies"], *project["optional-dependencies"]["pod"]]))
PYTHON
    pip install --constraint constraints.txt --requirement /tmp/needs.txt
    pip install --constraint constraints.txt --no-deps resemblyzer qwen-tts voxcpm neucodec vector-quantize-pytorch einx frozendict
    ;;
code)
    pip install --constraint constraints.txt --no-deps .
    ;;
esac
