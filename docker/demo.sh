#!/usr/bin/env bash
# The container demo: prepares shards of ml-100k, starts a SuperLink and four nodes, trains, shows
# the result, stops everything. Its last line is `test auc ... logloss ... best-round ...`.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'EOF2'
Usage: docker/demo.sh [KEY=VALUE...]      settings of the run, as in pyproject.toml

Environment
  MRFF_DEMO_HOME    prepared data and shards (default: ~/.mrff/compose)
  MRFF_DEMO_PURGE   1: delete the volumes at the end too (keys, results, private parameters)
  COMPOSE           the compose command (default: docker compose)
  TORCH_INDEX_URL   see docker/Dockerfile
EOF2
}
if [[ ${1:-} == -h || ${1:-} == --help ]]; then usage; exit; fi

read -ra compose <<<"${COMPOSE:-docker compose}"
export MRFF_DEMO_HOME=${MRFF_DEMO_HOME:-$HOME/.mrff/compose}
mkdir -p "$MRFF_DEMO_HOME"
MRFF_DEMO_HOME=$(cd "$MRFF_DEMO_HOME" && pwd)
export MRFF_SHARDS=$MRFF_DEMO_HOME/shards/ml-100k
MRFF_USER=$(id -u):$(id -g)
export MRFF_USER

run() { "${compose[@]}" -f docker/compose.yaml "$@"; }
say() { printf '== %s\n' "$*" >&2; }
finish() {
    local status=$? purge=()
    if ((status)); then run logs --tail 40 >&2 || true; fi
    say "stopping"
    if [[ ${MRFF_DEMO_PURGE:-} == 1 ]]; then purge=(--volumes); fi
    run --profile '*' down --remove-orphans --timeout 15 "${purge[@]}" >&2 || true
    # Held back until now: the result is the last line.
    if ((!status)); then tail -n 1 "$output"; fi
    rm -f "$output"
    exit "$status"
}
output=$(mktemp)
trap finish EXIT
trap 'exit 130' INT TERM

say "building the image"
run build keys >&2
say "preparing ml-100k and its shards in $MRFF_DEMO_HOME"
run run --rm --no-deps -T prepare data prepare ml-100k >&2
run run --rm --no-deps -T prepare data shard ml-100k --nodes 4 --out /home/mrff/shards/ml-100k >&2
chmod -R a+rX "$MRFF_DEMO_HOME"

say "starting a SuperLink and four nodes"
run up --detach --no-build --wait --wait-timeout 600 \
    serverapp node-0-executor node-1-executor node-2-executor node-3-executor >&2

settings=()
for setting in "run.name=compose-$(date -u +%Y%m%d-%H%M%S)" server.num-server-rounds=20 "$@"; do
    settings+=(--set "$setting")
done
say "training"
run run --rm --no-deps -T submit "${settings[@]}" | tee "$output" | sed '$d'
