#!/usr/bin/env bash
# Train on several GPUs of this machine (and, with NNODES, NODE_RANK and MASTER_ADDR, of several machines).
# Several runs on one machine need a PORT each (default: 29500).
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4p' "$0" >&2
    exit 2
fi
config=$1 gpus=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")"/train.py "$config" --launcher pytorch "$@"
