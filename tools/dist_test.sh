#!/usr/bin/env bash
# Evaluate on several GPUs, or CPU processes where there is no GPU.
# Usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# Several machines: NNODES NODE_RANK MASTER_ADDR PORT from the environment.
set -euo pipefail
usage="usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]"
config=${1:?$usage}
checkpoint=${2:?$usage}
processes=${3:?$usage}

exec "${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
  --nproc-per-node="$processes" \
  "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "${@:4}"
