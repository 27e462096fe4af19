#!/usr/bin/env bash
# Evaluate on several GPUs of this machine (and, with NNODES, NODE_RANK and MASTER_ADDR, of several machines).
# Several runs on one machine need a PORT each (default: 29500).
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
set -euo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,4p' "$0" >&2
    exit 2
fi
config=$1 checkpoint=$2 gpus=$3
shift 3
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")"/test.py "$config" "$checkpoint" --launcher pytorch "$@"
