# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Tutorial: from a CSV to an answer on a device
#
# This notebook writes a small file of its own, trains on it through Flower, looks at what came
# out, trains once more with differential privacy, and asks the exported model as a device would.
# It takes a few minutes on two cores. Its text is `docs/tutorial.py`;
# `python docs/run_tutorial.py` runs it and writes what it prints.
#
# You need the package with two extras: `pip install -c constraints.txt -e ".[export,site]"`.

# %%
import json
import os
import random
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pyarrow.parquet as parquet

folder = Path(tempfile.mkdtemp())  # everything of this notebook lies there
os.chdir(folder)
os.environ["MRFF_HOME"] = str(folder / "home")

# %% [markdown]
# ## Data of your own
#
# Sixteen customers, twelve teas and coffees. Half of the customers like tea, the others coffee, and
# nobody is quite consistent. The first column says who, the second what, then when, then stars.

# %%
drinks = {f"tea-{n}": "tea" for n in range(6)} | {f"coffee-{n}": "coffee" for n in range(6)}
chance = random.Random(0)
lines = ["customer,sku,day,stars"]
for customer in range(16):
    favourite = "tea" if customer % 2 else "coffee"
    for day, sku in enumerate(chance.sample(sorted(drinks), 10), start=1):
        liked = (drinks[sku] == favourite) == (chance.random() < 0.9)
        lines.append(f"c{customer},{sku},{day},{5 if liked else 2}")
Path("events.csv").write_text("\n".join(lines) + "\n")
Path("drinks.csv").write_text(
    "sku,label,kind\n" + "".join(f"{sku},{sku.title()},{kind}\n" for sku, kind in drinks.items())
)
Path("shop.toml").write_text("""
name = "shop"

[interactions]
file = "events.csv"
user = "customer"
item = "sku"
time = "day"
label = "stars >= 4"

[items]
file = "drinks.csv"
id = "sku"
title = "label"

[items.features]
item = "id"
kind = "categorical"
""")
print(len(lines) - 1, "rows, of which the first are", lines[1:4])

# %% [markdown]
# A description in TOML says what the columns mean. [Your own data](data.md#your-own-data) has all
# that may stand in one. `mrff data prepare` checks the files and codes them.

# %% language="bash"
# mrff data prepare csv --from shop.toml
# mrff data describe shop

# %% [markdown]
# The last rows are *floors*: what a table of rates reaches on the row that is held out of each
# customer. It sees everybody's rows at once, which federated training never does.
#
# ## Train
#
# Two nodes, eight customers each. Every customer is trained apart on their node. The server sees
# sums of updates.

# %% language="bash"
# set -o pipefail
# mrff run --nodes 2 -c dataset=shop -c name=first -c num-server-rounds=30 \
#     -c sampling-rate=1 -c num-experts=2 -c feature-dim=4 -c evaluate-every=3 2>&1 | tail -n 5

# %% [markdown]
# A run leaves its history as lines of JSON: one for each round and each validation.

# %%
lines = Path("home/runs/first/history.jsonl").read_text().splitlines()
history = [json.loads(line) for line in lines]
rounds = [line for line in history if line["kind"] == "round"]

figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
axes[0].plot([r["round"] for r in rounds], [r["train_loss"] for r in rounds])
axes[0].set(xlabel="round", ylabel="training loss")
checks = [line for line in history if line["kind"] == "validation"]
axes[1].plot([v["round"] for v in checks], [v["auc"] for v in checks], marker="o")
axes[1].set(xlabel="round", ylabel="validation AUC")
plt.show()
# %% [markdown]
# Sixteen held-out rows say little: one of them moves the AUC by several points. On real data the
# curve is smooth. `mrff report first` draws this and more on one HTML page, without a network.
#
# ## Recommendations
#
# One customer's list, and one for somebody who is in no data. The first lines say which model
# answers and what orders the list.

# %% language="bash"
# mrff recommend first --user c1 --top 3 --include-seen
# echo
# mrff recommend first --history "Coffee-1, Coffee-4" --top 3

# %% [markdown]
# ## Groups
#
# Each layer of the network has two experts here, and a gate sends a customer to one of them. The
# server knows how many went where, not who did.

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), sharey=True, layout="constrained")
for layer, axis in enumerate(axes):
    shares = [r["loads"][layer] for r in rounds]
    axis.stackplot(
        [r["round"] for r in rounds], *zip(*shares, strict=True), labels=["group 0", "group 1"]
    )
    axis.set(title=f"layer {layer + 1}", xlabel="round", ylim=(0, 1))
axes[0].set_ylabel("share of customers")
axes[0].legend()
plt.show()
# %% [markdown]
# Groups are found where there are enough people: [groups](groups.md) says when they are worth it.
#
# ## A private run
#
# Now with user-level differential privacy: everyone after the server must not be able to tell
# whether a customer took part. How much noise does epsilon = 8 need in 20 rounds?

# %% language="bash"
# mrff privacy plan --epsilon 8 --delta 1e-3 --rounds 20 --sampling-rate 0.5

# %% language="bash"
# set -o pipefail
# noise=$(mrff privacy plan --epsilon 8 --delta 1e-3 --rounds 20 --sampling-rate 0.5 --json |
#     python -c 'import json, sys; print(json.load(sys.stdin)["noise_multiplier"])')
# mrff run --nodes 2 -c dataset=shop -c name=private -c privacy.mode=central-user \
#     -c noise-multiplier=$noise -c delta=1e-3 -c epsilon-budget=8.01 -c num-server-rounds=20 \
#     -c sampling-rate=0.5 -c num-experts=2 -c feature-dim=4 -c server-learning-rate=0.01 \
#     2>&1 | tail -n 2
# mrff privacy report private

# %% [markdown]
# Noise hides sixteen people among sixteen, so hardly anything is learned: privacy has its price in
# people. With 6,040 users the same epsilon costs 0.010 of AUC ([privacy](privacy.md)).
#
# ## The model on a device
#
# `mrff export` writes one customer's whole model, private part included, as ONNX. The device needs
# onnxruntime and nothing of this package.

# %% language="bash"
# mrff export first --user c1 --out phone 2>log
# ls phone

# %%
names = parquet.read_table("phone/items.parquet").column("title").to_pylist()
code = {name: row + 1 for row, name in enumerate(names)}  # 0 is padding
model = onnxruntime.InferenceSession("phone/model.onnx")
candidates = ["Tea-0", "Tea-5", "Coffee-2", "Coffee-3"]
said = model.run(
    ["probabilities"],
    {
        "history": np.array([code["Tea-1"], code["Coffee-1"], code["Tea-3"]]),
        "feedback": np.array([2, 1, 2]),  # liked, not liked, liked
        "candidates": np.array([code[name] for name in candidates]),
    },
)[0]
for name, probability in zip(candidates, np.ravel(said), strict=True):
    print(f"{name:10} P(like) = {probability:.2f}")

# %% [markdown]
# ## Where to go from here
#
# * Your own files: [own data](howto/own-data.md). Real nodes: [deploy](howto/deploy.md).
# * A target epsilon on data of a size that carries it: [private runs](howto/private-training.md).
# * What the network is: [architecture](architecture.md).
