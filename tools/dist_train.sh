#!/usr/bin/env bash
# Train on several GPUs, or CPU processes where there is no GPU.
# Usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# Several machines: NNODES NODE_RANK MASTER_ADDR PORT from the environment.
set -euo pipefail
config=${1:?usage: $0 CONFIG PROCESSES [arguments of tools/train.py]}
processes=${2:?usage: $0 CONFIG PROCESSES [arguments of tools/train.py]}

"${PYTHON:-python}" -m torch.distributed.run \
  --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
  --nproc-per-node="$processes" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}" &
launcher=$!
# The launcher passes SIGTERM on, and nothing else; then it waits 30 s for the
# processes, which save a checkpoint.
trap 'kill -TERM $launcher' TERM INT USR1
status=0
while kill -0 $launcher 2> /dev/null; do
  wait $launcher && status=0 || status=$?
done
exit $status
