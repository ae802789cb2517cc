"""The plain sizes and choices that a network is built from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkShape:
    """What the network of a run looks like; the run's settings name the limits and the defaults."""

    window_length: int  # L, most positions of a window
    objective: str  # "click", "next" or "both": which heads there are
    initial_scale: float  # standard deviation of embedding tables as they start
    backbone: str  # a key of `mrff_model.backbones.BACKBONES`
    feature_mix: str  # of an item's: "concat", side by side, or "sum"
    feature_dim: int  # width of one feature's embedding
    item_ids: str  # a key of `mrff_model.item_ids.ITEM_IDS`
    hash_rows: int  # of each of an item's two hashes, where it has no row of its own
    hidden_dim: int  # d; 0: the item features' concatenated width
    num_layers: int
    num_heads: int  # H, divides d
    num_experts: int  # K, expert networks per layer
    expert_dim: int  # inner width of an expert; 0: d
    user_network_dim: int  # inner width of the private network; 0: none
    user_embedding_dim: int  # E; 0: none
    user_bias: bool
    user_factors: bool  # each user's own taste, multiplied with the target's embedding
    item_bias: bool
    user_features: bool  # the head reads the users' features
    head: str  # a key of `mrff_model.heads.HEADS`
    head_dim: int  # inner width of the prediction MLP
    gate_mode: str  # "switch": the expert is weighted with its probability; "hard": it is not;
    # "evidence": users' labels choose experts at the prediction (`mrff_model.evidence`)
    gate_input: str  # "history": items and the gate below; "earlier": as that, of the items before
    # the window; "hidden": the hidden states
    history_feedback: bool  # past labels are part of the history
    history_times: bool  # and so is how long after one another items came
    same_time: str  # labels of the target's own time: "known" as history, or "unknown"
    history_rates: bool  # the head reads the user's own rates (`mrff_model.own_rates`)
    time_inputs: bool  # and what the clock says (`mrff_model.time_columns`)
    item_statistics: bool  # the head reads `mrff_model.inputs`
    noised_statistics: bool  # they came with noise, see `mrff.privacy.noised_items`
    kind_statistics: bool  # others' liking of the target's kinds is among them
    closed_form_factors: int  # d, width of a taste in closed form among them; 0: none
    dropout: float
    private_parameters: str  # a key of `mrff_model.scopes.KEPT_PRIVATE`
