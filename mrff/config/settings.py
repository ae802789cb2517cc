"""Every setting of a run with its default, its limits and its reason, by the part that reads it.

Keys in ``[tool.flwr.app.config]`` and ``--run-config`` are these names in kebab-case.
"""

from __future__ import annotations

from dataclasses import dataclass

from mrff.config.parsing import setting


@dataclass(frozen=True)
class DataSettings:
    """What is learned from: dataset, split, windows."""

    dataset: str = setting("ml-100k")  # a recipe's name, or any name together with data-dir
    data_dir: str = setting(
        ""
    )  # a prepared dataset; empty: <home>/data/<dataset>, made on first use
    home: str = setting("")  # empty: the environment's MRFF_HOME, else ~/.mrff
    holdout: int = setting(
        1, low=1, high=50
    )  # last k interactions = test, the k before = validation
    window_length: int = setting(65, low=2, high=4096)  # L, positions of a training record
    max_windows_per_user: int = setting(1, low=0)  # latest windows of L; 0: all of them


@dataclass(frozen=True)
class NetworkSettings:
    """The network (DESIGN 3). Sizes are numbers of units."""

    backbone: str = setting("sasrec", choices=("sasrec", "hstu", "linear"))
    feature_dim: int = setting(8, low=1, high=512)  # per item or user feature
    hidden_dim: int = setting(0, low=0, high=4096)  # d; 0: the features' concatenated width
    num_layers: int = setting(2, low=1, high=16)
    num_heads: int = setting(1, low=1, high=64)
    num_experts: int = setting(4, low=1, high=64)  # K, expert networks per layer
    expert_dim: int = setting(0, low=0, high=16384)  # inner width of an expert; 0: d
    user_network_dim: int = setting(
        8, low=0, high=16384
    )  # inner width of the private network; 0: none
    user_embedding_dim: int = setting(8, low=0, high=512)  # e_u; 0: none
    user_bias: bool = setting(True)  # b_u
    user_factors: bool = setting(False)  # p_u . e_i; pays where users have many interactions
    item_bias: bool = setting(False)  # b_i, shared; for catalogues too large to embed
    user_features: bool = setting(True)  # read age, gender, ... if the dataset has them
    head_dim: int = setting(32, low=1, high=4096)  # inner width of the prediction MLP
    gate_mode: str = setting("switch", choices=("switch", "hard"))
    gate_input: str = setting("history", choices=("history", "hidden"))
    history_feedback: bool = setting(True)  # past labels are part of the history
    history_rates: bool = setting(True)  # the head reads the user's own rates on items alike
    dropout: float = setting(0.3, low=0.0, high=0.95)
    private_parameters: str = setting(
        "user", choices=("user", "head", "all")
    )  # kept private: what is the user's own; the prediction head besides; everything
    clusters: int = setting(0, low=0, high=64)  # copies of the whole network (IFCA); 0: experts


@dataclass(frozen=True)
class TrainingSettings:
    """What a client does in a round."""

    seed: int = setting(0, low=0, high=2**63 - 1)
    trainer: str = setting("cohort", choices=("cohort", "serial"))  # many users at once, or a loop
    cohort_memory_mb: int = setting(512, low=1)  # most that training a chunk of users may take
    device: str = setting("auto", choices=("auto", "cpu", "cuda"))  # of the cohort trainer
    sampling_rate: float = setting(0.2, above=0.0, high=1.0)  # share of users per round (Poisson)
    local_steps: int = setting(1, low=1, high=1000)
    local_optimizer: str = setting("sgd", choices=("sgd", "adam"))
    local_learning_rate: float = setting(1.0, above=0.0)
    private_learning_rate: float = setting(0.01, low=0.0)  # higher ones overfit in tens of rounds
    private_weight_decay: float = setting(0.0, low=0.0)
    user_factors_learning_rate: float = setting(10.0, low=0.0)  # times n / (n + prior), n targets
    user_factors_prior: float = setting(800.0, low=0.0)  # targets that "no taste of his own" weighs
    balance_weight: float = setting(0.01, low=0.0)  # alpha of the balance loss
    proximal_weight: float = setting(0.0, low=0.0)  # mu of FedProx: pulls towards the shared model
    user_weighting: str = setting("uniform", choices=("uniform", "targets"))


@dataclass(frozen=True)
class ServerSettings:
    """How replies become the next model, and how long to wait for them."""

    num_server_rounds: int = setting(100, low=1, high=1_000_000)
    server_optimizer: str = setting("adam", choices=("average", "momentum", "adam"))
    server_learning_rate: float = setting(0.01, above=0.0)
    gate_learning_rate_factor: float = setting(0.1, low=0.0)  # faster gates flip users every round
    balance_rate: float = setting(0.01, low=0.0)  # of gates' intercepts: no expert without users
    item_bias_learning_rate_factor: float = setting(3.0, low=0.0)  # most items are seen seldom
    expert_pooling: float = setting(
        0.5, low=0.0, high=1.0
    )  # how far experts follow everybody; above 0 they start alike
    server_decay_rounds: int = setting(100, low=0)  # cosine to the final rate; 0: stays full
    server_final_rate: float = setting(0.05, low=0.0, high=1.0)  # share of the learning rate
    server_momentum: float = setting(0.9, low=0.0, high=0.999999)  # momentum, and Adam's beta 1
    server_beta2: float = setting(0.99, low=0.0, high=0.999999)
    server_epsilon: float = setting(1e-8, above=0.0)
    expected_nodes: int = setting(
        0, low=0
    )  # 0: as many as the simulation has; deployed: at least 1
    node_wait_seconds: float = setting(120.0, above=0.0)
    reply_timeout_seconds: float = setting(600.0, above=0.0)  # per phase; dead nodes: a minute
    min_reply_fraction: float = setting(0.5, low=0.0, high=1.0)
    max_update_norm: float = setting(0.0, low=0.0)  # of a node's mean update, per part; 0: any
    send_window: int = setting(32, low=1, high=1000)  # messages outstanding at once


@dataclass(frozen=True)
class EvaluationSettings:
    """When and how finely quality is measured."""

    evaluate_every: int = setting(5, low=1)  # validation every n rounds, and after the last
    validate_beside_training: bool = setting(True)  # in the next round's messages: a phase less
    histogram_bins: int = setting(2048, low=16, high=65536)
    early_stop_patience: int = setting(0, low=0)  # validations without a better AUC; 0: never stop
    keep_test_scores: bool = setting(False)  # a node keeps its users' test scores; they never leave


@dataclass(frozen=True)
class OutputSettings:
    """Where results go and how a run is taken up again."""

    run_name: str = setting("")  # folder under <home>/runs; empty: dataset, time and run id
    resume: str = setting("")  # name or path of a run to continue from its last checkpoint
    checkpoint_every: int = setting(10, low=1)  # rounds
    tensorboard: bool = setting(True)
