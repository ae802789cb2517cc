"""Every setting of a run but those of privacy, by the part that reads it.

A class is a group: `window_length` of `DataSettings` is ``data.window-length`` in Flower's run
configuration. `mrff.config.declaration` says what a declaration holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from mrff.config.declaration import Limits, setting


@dataclass(frozen=True)
class DataSettings:
    """What is learned from: dataset, split, windows."""

    dataset: str = setting("ml-100k", "a recipe's name, or any name together with data-dir")
    data_dir: str | None = setting(
        "auto",
        "a prepared dataset; auto: HOME/data/DATASET, made on first use",
        Limits(word="auto"),
    )
    home: str | None = setting(
        "auto",
        "for data, runs and private state; auto: the environment's MRFF_HOME, else ~/.mrff",
        Limits(word="auto"),
        free=True,
    )
    holdout: int = setting(
        1,
        "k: a user's last k interactions are the test, the k before validation; 0: final training",
        Limits(0, 50),
    )
    validation_users: float = setting(
        0.1,
        "share of users who do not train where holdout is 0: their last interaction validates",
        Limits(above=0.0, high=0.5),
    )
    window_length: int = setting(65, "L, positions of a training record", Limits(2, 4096))
    max_windows_per_user: int | None = setting(
        1, "latest windows of L positions that a user trains on", Limits(1, word="all"), fitted=True
    )
    targets: str = setting(
        "all",
        "rows to predict as the next item; liked where rows are impressions, not choices",
        Limits(choices=("all", "liked")),
    )
    same_time: str = setting(
        "known",
        "labels of rows of the same time as the one to predict; unknown: as on a device",
        Limits(choices=("known", "unknown")),
    )


@dataclass(frozen=True)
class NetworkSettings:
    """The network. Sizes are numbers of units."""

    backbone: str = setting("sasrec", "attention between positions", Limits(registry="backbones"))
    initial_scale: float = setting(
        0.1, "standard deviation of embedding tables at the start", Limits(above=0.0, high=10.0)
    )
    feature_mix: str | None = setting(
        "auto",
        "an item's features, side by side or added up; auto: side by side for click, else added up",
        Limits(choices=("concat", "sum"), word="auto"),
    )
    feature_dim: int | None = setting(
        "auto",
        "width of an item's or user's feature; auto: 8 side by side, 48 added up",
        Limits(1, 512, word="auto"),
        fitted=True,
    )
    item_ids: str = setting(
        "full",
        "how items are told apart: a row each, two hashed rows, or by their features alone",
        Limits(choices=("full", "hashed", "features")),
    )
    hash_rows: int = setting(4096, "rows of each hash, for item-ids=hashed", Limits(1, 2**24))
    hidden_dim: int | None = setting(
        "auto", "d; auto: the features' widths added up", Limits(1, 4096, word="auto")
    )
    num_layers: int = setting(2, "layers", Limits(1, 16))
    num_heads: int = setting(1, "attention heads of a layer; they divide d", Limits(1, 64))
    num_experts: int = setting(
        4, "K, expert networks per layer: groups of users", Limits(1, 64), fitted=True
    )
    expert_dim: int | None = setting(
        "auto", "inner width of an expert; auto: d", Limits(1, 16384, word="auto")
    )
    user_network_dim: int | None = setting(
        8,
        "inner width of the user's own network in every layer",
        Limits(1, 16384, word="off"),
        fitted=True,
    )
    user_embedding_dim: int | None = setting(
        8, "e_u, width of the user's own embedding", Limits(1, 512, word="off")
    )
    user_bias: bool = setting(True, "b_u, a number of the user's own in the logit")
    user_factors: bool = setting(
        False, "p_u . e_i in the logit; pays where users have many interactions", fitted=True
    )
    item_bias: bool = setting(
        False,
        "b_i, shared, in the logit; for catalogues too large to embed every item",
        fitted=True,
    )
    user_features: bool = setting(True, "read age, gender, ... if the dataset has them")
    head: str = setting(
        "mlp",
        "of clicks; linear: inputs alone, target-attention: the target weighs the history (DIN)",
        Limits(registry="heads"),
    )
    head_dim: int = setting(32, "inner width of the prediction MLP", Limits(1, 4096))
    gate_mode: str | None = setting(
        "auto",
        "switch, hard: the gate chooses; evidence: labels; auto: labels where none else are read",
        Limits(choices=("switch", "hard", "evidence"), word="auto"),
    )
    gate_input: str | None = setting(
        "auto",
        "what the gate reads; auto: the history, but earlier items where the next one is learned",
        Limits(choices=("history", "earlier", "hidden"), word="auto"),
    )
    history_feedback: bool = setting(True, "past labels are part of the history")
    history_times: bool = setting(
        False, "so is how long after the one before each came; for data with real times"
    )
    history_rates: bool = setting(True, "the head reads the user's own rates on items alike")
    time_inputs: bool = setting(
        False,
        "the head reads gaps between rows and the hour; for data with real times",
        fitted=True,
    )
    item_statistics: bool = setting(
        False, "the head reads what others make of an item, by sums before training", fitted=True
    )
    kind_statistics: bool = setting(
        False,
        "and of its kinds, the values of its features; needs item-statistics",
        fitted=True,
    )
    closed_form_factors: int | None = setting(
        "off",
        "width of a user's taste in closed form, which the head reads; needs item-statistics",
        Limits(1, 256, word="off"),
        fitted=True,
    )
    dropout: float = setting(
        0.3, "share of units left out in training", Limits(0.0, 0.95), fitted=True
    )
    private_parameters: str = setting(
        "user",
        "what is kept private: the user's own parts; the prediction head besides; everything",
        Limits(choices=("user", "head", "all")),
    )
    clusters: int | None = setting(
        "off", "copies of the whole network to choose from (IFCA)", Limits(1, 64, word="off")
    )


@dataclass(frozen=True)
class TrainingSettings:
    """What a client does in a round."""

    algorithm: str | None = setting(
        "auto",
        "what nodes train; auto: clusters where network.clusters says how many, else mrff",
        Limits(registry="algorithms", word="auto"),
    )
    objective: str | None = setting(
        "auto",
        "whether a shown item is liked, or which comes next; auto: by the data, next for events",
        Limits(choices=("click", "next", "both"), word="auto"),
    )
    next_weight: float = setting(
        1.0, "of the next item's loss beside the click's, in both", Limits(above=0.0)
    )
    initial_logit: float = setting(
        0.0, "log-odds that a click is predicted with before round 1", Limits(-20.0, 20.0),
        fitted=True,
    )  # fmt: skip
    full_softmax_items: int = setting(
        2048, "largest catalogue that the next item is compared with as a whole", Limits(0)
    )
    drawn_items: int = setting(
        128, "items of a larger catalogue that a user draws to compare with, per round",
        Limits(1, 65536),
    )  # fmt: skip
    negatives: int = setting(
        4, "items drawn for each item of a user, to tell apart; of rivals that factorise",
        Limits(0, 1000),
    )  # fmt: skip
    local_batch: int | None = setting(
        256, "of such rivals: items and negatives of a gradient step; all: a pass is one step",
        Limits(1, word="all"),
    )  # fmt: skip
    linear_items: int | None = setting(
        "off",
        "items, those met most, of linear models that are mixed with the network",
        Limits(1, 20000, word="off"),
        fitted=True,
    )
    seed: int = setting(0, "of every draw but those of privacy", Limits(0, 2**63 - 1))
    device: str = setting(
        "auto",
        "where a node computes; auto: on its GPU if it has one",
        Limits(choices=("auto", "cpu", "cuda")),
        free=True,
    )
    precision: str = setting(
        "fp32",
        "of training's matrix products; tf32 rounds on a GPU alone, bf16 everywhere",
        Limits(choices=("fp32", "tf32", "bf16")),
    )
    sampling_rate: float = setting(
        0.2, "share of users per round, each drawn apart (Poisson)", Limits(above=0.0, high=1.0)
    )
    local_steps: int = setting(1, "gradient steps of a user in a round", Limits(1, 1000))
    local_optimizer: str = setting("sgd", "of these steps", Limits(choices=("sgd", "adam")))
    local_learning_rate: float = setting(1.0, "of the shared parameters", Limits(above=0.0))
    private_learning_rate: float = setting(
        0.01, "of private parameters; higher ones overfit in tens of rounds", Limits(0.0)
    )
    private_weight_decay: float = setting(0.0, "of private parameters", Limits(0.0))
    user_factors_learning_rate: float = setting(
        10.0, "of user factors, times n / (n + prior) for n targets", Limits(0.0), fitted=True
    )
    user_factors_prior: float = setting(
        800.0, 'targets that "no taste of their own" weighs', Limits(0.0)
    )
    balance_loss_weight: float = setting(
        0.01, "alpha of the loss that spreads users over experts", Limits(0.0)
    )
    proximal_weight: float = setting(
        0.0, "mu of FedProx: pulls towards the shared model", Limits(0.0)
    )
    user_weighting: str = setting(
        "uniform",
        "what a user's update counts: one, or as many as they have targets",
        Limits(choices=("uniform", "targets")),
        fitted=True,
    )


@dataclass(frozen=True)
class ServerSettings:
    """How replies become the next model, and how long to wait for them."""

    num_server_rounds: int = setting(
        100, "all rounds of a run, those before it was resumed included",
        Limits(1, 1_000_000), free=True,
    )  # fmt: skip
    server_optimizer: str = setting(
        "adam", "what turns the mean update into a step",
        Limits(choices=("average", "momentum", "adam")),
    )  # fmt: skip
    server_learning_rate: float = setting(0.01, "of that step", Limits(above=0.0), fitted=True)
    gate_learning_rate_factor: float = setting(
        0.1, "of gates: faster ones move users to other experts every round", Limits(0.0)
    )
    balance_rate: float = setting(
        0.01, "how fast gates' intercepts follow the loads: no expert without users", Limits(0.0)
    )
    item_bias_learning_rate_factor: float = setting(
        3.0, "of items' biases: most items are seen seldom", Limits(0.0), fitted=True
    )
    body_learning_rate_factor: float = setting(
        1.0, "of all before the heads; a slow body learns no rows by heart", Limits(0.0)
    )
    expert_pooling: float = setting(
        0.5, "how far experts follow everybody's mean; above 0 they start alike", Limits(0.0, 1.0)
    )
    groups: str = setting(
        "kept", "validated: one expert for all where validation gains less than 0.001 by groups",
        Limits(choices=("kept", "validated")),
    )  # fmt: skip
    server_decay_rounds: int | None = setting(
        "auto", "rounds of a cosine to the final rate; auto: all of the run", Limits(1, word="auto")
    )
    server_final_rate: float = setting(
        0.05, "share of the rate at the end of the cosine; 1: it stays", Limits(0.0, 1.0)
    )
    server_momentum: float = setting(0.9, "momentum, and Adam's beta 1", Limits(0.0, 0.999999))
    expected_nodes: int | None = setting(
        "auto",
        "nodes to wait for; auto: as many as the simulation has, deployed at least 1",
        Limits(1, word="auto"),
        free=True,
    )
    node_wait_seconds: float = setting(
        120.0, "longest wait for nodes at the start", Limits(above=0.0), free=True
    )
    reply_timeout_seconds: float = setting(
        600.0, "longest wait for replies in a phase; dead nodes: a minute",
        Limits(above=0.0), free=True,
    )  # fmt: skip
    min_reply_fraction: float = setting(
        0.5, "share of nodes that must reply in a round", Limits(0.0, 1.0), free=True
    )
    max_update_norm: float | None = setting(
        "off", "of a node's mean update, per part: a longer one is refused",
        Limits(above=0.0, word="off"),
    )  # fmt: skip
    compression: str = setting(
        "none", "arrays are rounded at random to so many bits, both ways: docs/performance.md",
        Limits(choices=("none", "8-bit", "4-bit")),
    )  # fmt: skip
    send_window: int | None = setting(
        "auto", "messages outstanding at once; auto: 32", Limits(1, 1000, word="auto"), free=True
    )


@dataclass(frozen=True)
class EvaluationSettings:
    """When and how finely quality is measured."""

    evaluate_every: int = setting(5, "validation every n rounds, and after the last", Limits(1))
    select_best_by: str | None = setting(
        "auto",
        "metric that says which round is best; auto: auc, ndcg10, or auc_ndcg10, by the objective",
        Limits(registry="metrics", word="auto"),
    )
    histogram_bins: int = setting(2048, "bins of the scores that AUC comes from", Limits(16, 65536))
    early_stop_patience: int | None = setting(
        "off", "validations without a better model that end a run", Limits(1, word="off")
    )
    ranking_candidates: int | None = setting(
        "all",
        "items drawn to rank a held-out one among; all: every item that the user had not met",
        Limits(1, word="all"),
    )
    score_test: bool = setting(
        True, "test the best model when training is over; off while settings are searched"
    )
    keep_test_scores: bool = setting(
        False, "a node keeps its users' test scores on its disk; they never leave"
    )


@dataclass(frozen=True)
class RunSettings:
    """Where results go and how a run is taken up again."""

    name: str | None = setting(
        "auto", "folder under HOME/runs; auto: dataset, time and run id",
        Limits(word="auto"), free=True,
    )  # fmt: skip
    fit_settings: bool = setting(
        True, "settings left at auto follow from the data where the server has it: docs/tuning.md",
        free=True,
    )  # fmt: skip
    start_from: str | None = setting(
        "off", "name or path of a run whose best model this one begins with: docs/growing.md",
        Limits(word="off"), free=True,
    )  # fmt: skip
    start_share: float = setting(
        1.0, "of that run's model in the first one, the rest as drawn: docs/growing.md",
        Limits(above=0.0, high=1.0), free=True,
    )  # fmt: skip
    resume: str | None = setting(
        "off", "name or path of a run to continue from its last checkpoint, with its settings",
        Limits(word="off"), free=True,
    )  # fmt: skip
    checkpoint_every: int = setting(10, "rounds between checkpoints", Limits(1), free=True)
    tensorboard: bool = setting(True, "write event files for TensorBoard", free=True)
