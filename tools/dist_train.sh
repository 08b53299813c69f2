#!/usr/bin/env bash
# Train on several GPUs, or CPU processes where there is no GPU.
# Usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# Several machines: NNODES NODE_RANK MASTER_ADDR PORT from the environment.
set -euo pipefail
config=${1:?usage: $0 CONFIG PROCESSES [arguments of tools/train.py]}
processes=${2:?usage: $0 CONFIG PROCESSES [arguments of tools/train.py]}

exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
  --nproc-per-node="$processes" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}"
