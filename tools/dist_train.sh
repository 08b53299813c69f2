#!/usr/bin/env bash
# Train on several GPUs, or CPU processes where there is no GPU.
# Usage: tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# Several machines: NNODES NODE_RANK MASTER_ADDR PORT from the environment.
set -euo pipefail
config=${1:?usage: $0 CONFIG PROCESSES [arguments of tools/train.py]}
processes=${2:?usage: $0 CONFIG PROCESSES [arguments of tools/train.py]}

# In a group of its own the launcher is out of reach of Ctrl-C, to which it
# would answer by a second signal.
set -m
"${PYTHON:-python}" "$(dirname "$0")/dist_launch.py" \
  --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
  --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
  --nproc-per-node="$processes" \
  "$(dirname "$0")/train.py" "$config" --launcher pytorch "${@:3}" &
launcher=$!
# The processes save a checkpoint then. The launcher knows SIGTERM alone, after
# which it would give them 30 s.
trap 'pkill -USR1 -P $launcher || kill -TERM $launcher' TERM INT USR1
while kill -0 $launcher 2> /dev/null; do
  wait $launcher || true
done
wait $launcher
