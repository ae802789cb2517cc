#!/usr/bin/env bash
# Own data, a private run, and two nodes over TLS. Run it in an empty folder: bash first_hour.sh
set -euo pipefail
export MRFF_HOME=$PWD/home FLWR_HOME=$PWD/flower
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
port=${1:-8000} # of the SuperLink; the nodes listen on the two ports after it

# 1. Rows of your own: who, what, when, how it was. Here they are made up.
python - >events.csv <<'END_OF_ROWS'
import random

chance = random.Random(0)
print("customer,sku,day,stars")
for customer in range(20):
    for day in range(10):
        print(f"c{customer},s{chance.randrange(15)},{day},{chance.randint(1, 5)}")
END_OF_ROWS
cat >shop.toml <<'END_OF_TOML'
name = "shop"
[interactions]
file = "events.csv"
user = "customer"
item = "sku"
time = "day"
label = "stars >= 4"
repeats = "last"
END_OF_TOML
mrff data prepare csv --from shop.toml
mrff data describe shop

# 2. Train on two simulated nodes, and ask.
mrff run --nodes 2 -c dataset=shop -c name=first -c num-server-rounds=5
mrff recommend first --user c1 --top 3
mrff report first

# 3. The same, private: epsilon 8 for each customer. The nodes' ledgers watch over the budget.
mrff privacy plan --epsilon 8 --delta 1e-3 --rounds 5 --sampling-rate 0.5
mrff run --nodes 2 -c dataset=shop -c name=private -c privacy.mode=central-user \
    -c noise-multiplier=1.2 -c delta=1e-3 -c epsilon-budget=8 \
    -c num-server-rounds=5 -c sampling-rate=0.5
mrff privacy report private

# 4. Real nodes: keys, a shard for each, a SuperLink and two SuperNodes that know each other.
mrff deploy keys keys --nodes 2 --superlink-host 127.0.0.1
mrff data shard shop --nodes 2 --out shards

started=()
trap 'kill "${started[@]}" 2>/dev/null; wait' EXIT
flower-superlink --host 127.0.0.1 --port "$port" --ssl-ca-certfile keys/superlink/ca.crt \
    --ssl-certfile keys/superlink/server.crt --ssl-keyfile keys/superlink/server.key \
    --enable-supernode-auth --database superlink.db \
    --disable-runtime-dependency-installation >superlink.log 2>&1 &
started+=($!)
mrff deploy register keys/public/node-0.pub keys/public/node-1.pub \
    --superlink "127.0.0.1:$port" --ca keys/public/ca.crt
for node in 0 1; do
    flower-supernode --superlink "127.0.0.1:$port" --root-certificates "keys/node-$node/ca.crt" \
        --auth-supernode-private-key "keys/node-$node/auth.key" \
        --host 127.0.0.1 --port $((port + 1 + node)) \
        --node-config "data-dir=\"$PWD/shards/node-$node\" state-dir=\"$PWD/state-$node\"" \
        >"node-$node.log" 2>&1 &
    started+=($!)
done

# 5. A run on them: the server has the public catalogue, the nodes have the rows.
mrff deploy submit --superlink "127.0.0.1:$port" --ca keys/public/ca.crt --results "$PWD/home" \
    -c dataset=shop -c data-dir="$PWD/shards/server" -c home="$PWD/home" \
    -c expected-nodes=2 -c name=deployed -c num-server-rounds=2
