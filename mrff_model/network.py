"""The MRFF network (AAAI 2025, section 3), from the history of one user or many to logits.

Shapes: B users, W windows each, L positions, d the hidden width, K experts per layer. Windows are
padded at the right; position t holds the item before the target, so a window's first position
holds the start code 0.

Public and group parameters are the same for all B users. Private ones have a leading dimension of
users: 1 in the module as built (serial training of one user), B rows when a cohort is computed at
once with `torch.func.functional_call`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mrff_model.backbones import Backbone, build_backbone
from mrff_model.dropout import keyed_dropout
from mrff_model.experts import ExpertBank, UserNetwork
from mrff_model.features import INITIAL_STD, FeatureEmbedding
from mrff_model.gate import Gate, masked_mean
from mrff_model.own_rates import number_of_rates, own_rates

FEEDBACK_CODES = 3  # of a history item: none, label 0, label 1


class Batch(NamedTuple):
    """Records of B users; see `mrff.data.windows.Records` for the meaning of each field."""

    items: Tensor  # (B, W, L) int64
    feedback: Tensor  # (B, W, L) int64
    targets: Tensor  # (B, W, L) int64
    labels: Tensor  # (B, W, L) float32
    mask: Tensor  # (B, W, L) bool, where the target counts
    real: Tensor  # (B, W, L) bool, where the position exists
    user_codes: Mapping[str, Tensor]  # user features, (B,) each, or (B, M)

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with ``change`` done to each of its tensors."""
        codes = {name: change(field) for name, field in self.user_codes.items()}
        return Batch._make([*(change(field) for field in self[:-1]), codes])


class Output(NamedTuple):
    """What the network says of a batch."""

    logits: Tensor  # (B, W, L) of a click on the target
    routes: Tensor  # (B, layers) int64, the chosen expert
    chosen: Tensor  # (B, layers), its probability


class Layer(nn.Module):
    """Attention, then one expert of the group and the user's own network in parallel."""

    def __init__(
        self,
        *,
        dim: int,
        backbone: str,
        num_heads: int,
        window_length: int,
        num_experts: int,
        expert_dim: int,
        user_network_dim: int,
        gate_inputs: int,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = build_backbone(backbone, dim, num_heads, window_length)
        self.expert_norm = nn.LayerNorm(dim)
        self.gate = Gate(gate_inputs, num_experts)
        self.experts = ExpertBank(num_experts, dim, expert_dim)
        self.user_network = UserNetwork(dim, user_network_dim) if user_network_dim else None


class MRFFNetwork(nn.Module):
    """Click logits for every position of a user's history.

    Args:
        catalogue: codes of every item, by feature: (items + 1,), or (items + 1, M) for a feature
            with several values; row 0 is padding.
        item_sizes, user_sizes: number of codes by feature, 0 included.
        several_user_values: user features with several values.
        rate_features: item features of which the user's own rates are read; None: no rates at all.
        The others as in `mrff.config.NetworkSettings`; ``hidden_dim`` and ``expert_dim`` may be 0.
    """

    def __init__(
        self,
        *,
        catalogue: Mapping[str, Tensor],
        item_sizes: Mapping[str, int],
        user_sizes: Mapping[str, int],
        several_user_values: frozenset[str] = frozenset(),
        window_length: int,
        backbone: str,
        feature_dim: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        num_experts: int,
        expert_dim: int,
        user_network_dim: int,
        user_embedding_dim: int,
        user_bias: bool,
        head_dim: int,
        gate_mode: str,
        gate_input: str,
        history_feedback: bool,
        dropout: float,
        private_parameters: str = "user",
        item_bias: bool = False,
        user_factors: bool = False,
        rate_features: Collection[str] | None = None,
    ) -> None:
        super().__init__()
        self.kept_private = private_parameters  # see `mrff_model.scopes.KEPT_PRIVATE`
        self.gate_mode, self.gate_input = gate_mode, gate_input
        self.dropout, self.num_experts = dropout, num_experts
        self._catalogue_names = tuple(item_sizes)
        for name in item_sizes:
            self.register_buffer(f"catalogue_{name}", catalogue[name].long(), persistent=False)
        self.several_item_values = frozenset(n for n in item_sizes if catalogue[n].dim() == 2)
        self.several_user_values = several_user_values
        self._rate_features = None if rate_features is None else tuple(rate_features)

        self.item_features = FeatureEmbedding(item_sizes, dim=feature_dim)
        self.user_features = FeatureEmbedding(user_sizes, dim=feature_dim) if user_sizes else None
        item_width = self.item_features.width
        user_width = self.user_features.width if self.user_features else 0
        dim = hidden_dim or item_width
        self.input_projection = nn.Linear(item_width, dim) if dim != item_width else None
        self.positions = nn.Embedding(window_length, dim)
        self.feedback = nn.Embedding(FEEDBACK_CODES, dim) if history_feedback else None
        self.layers = nn.ModuleList(
            Layer(
                dim=dim,
                backbone=backbone,
                num_heads=num_heads,
                window_length=window_length,
                num_experts=num_experts,
                expert_dim=expert_dim or dim,
                user_network_dim=user_network_dim,
                gate_inputs=user_embedding_dim
                + (dim if gate_input == "hidden" else item_width + num_experts),
            )
            for _ in range(num_layers)
        )
        self.output_norm = nn.LayerNorm(dim)
        seen = dim + item_width + user_embedding_dim + user_width
        if self._rate_features is not None:
            seen += number_of_rates(self._rate_features)
        self.head = nn.ModuleDict(
            {
                "up": nn.Linear(seen, head_dim),
                "down": nn.Linear(head_dim, 1),
            }
        )
        self.user_embedding = nn.Parameter(torch.zeros(1, user_embedding_dim))
        self.user_bias = nn.Parameter(torch.zeros(1)) if user_bias else None
        self.user_factors = nn.Parameter(torch.zeros(1, item_width)) if user_factors else None
        rows = len(next(iter(catalogue.values())))
        self.item_bias = _zeros(rows) if item_bias else None
        for table in (self.positions, self.feedback):
            if table is not None:
                nn.init.normal_(table.weight, std=INITIAL_STD)

    def forward(
        self,
        batch: Batch,
        dropout_key: Tensor | None = None,
        *,
        shared_look_ups: bool = False,
        rates: list[Tensor] | None = None,
    ) -> Output:
        """Logits, routes and the routes' probabilities.

        Args:
            batch: records of B users.
            dropout_key: (B,) int64, a key per user and step; None switches dropout off.
            shared_look_ups: embed every distinct item of the batch once. Several times faster to
                differentiate, but gradients can then not be taken apart into records.
            rates: `rates_of` the batch, if they are known.
        """
        items, targets = self._embed_items(batch, shared_look_ups)  # (B, W, L, item width) each
        x, routes, chosen = self._encode(items, batch, dropout_key, shared_look_ups)
        if rates is None:
            rates = self.rates_of(batch)
        logits = self._predict(x, targets, rates, batch, dropout_key)
        return Output(self._with_biases(logits, batch.targets, dropout_key), routes, chosen)

    def score_items(self, history: Batch, candidates: Tensor) -> Output:
        """How likely each of ``candidates`` is clicked next, without dropout.

        Args:
            history: one window (B, 1, L) without padding for each user, newest item last; targets,
                labels and mask are not read.
            candidates: (N,) int64 item codes.

        Returns:
            Logits (B, N), routes and chosen as in `forward`.
        """
        x, routes, chosen = self._encode(self._embed_codes(history.items), history, None, False)
        targets = self._embed_codes(candidates).expand(len(x), 1, -1, -1)  # (B, 1, N, item width)
        newest = x[:, :, -1:].expand(-1, -1, candidates.shape[0], -1)  # (B, 1, N, d)
        wanted = candidates.expand(len(x), 1, -1)  # (B, 1, N)
        rates = self._rates(history, wanted, newest=True)
        logits = self._predict(newest, targets, rates, history, None)
        return Output(self._with_biases(logits, wanted, None).squeeze(1), routes, chosen)

    def floats_per_position(self) -> int:
        """About how many numbers a training step keeps per position (of a window padded to L)."""
        dim, item_width = self.positions.weight.shape[1], self.item_features.width
        head = cast("nn.Linear", self.head["up"])
        inner = 0
        for layer in cast("Iterable[Layer]", self.layers):
            attention = cast("Backbone", layer.attention)
            inner += 22 * dim + 4 * layer.experts.up_bias.shape[1]
            inner += attention.floats_per_position(len(self.positions.weight))
            if layer.user_network is not None:
                inner += 4 * layer.user_network.up_bias.shape[1]
        if self._rate_features is not None:
            inner += 16 * (1 + len(self._rate_features))
        return 6 * item_width + 4 * dim + inner + 2 * head.in_features + 4 * head.out_features

    def _embed_items(self, batch: Batch, shared_look_ups: bool) -> tuple[Tensor, Tensor]:
        """The items of the history and the targets."""
        if not shared_look_ups:
            return self._embed_codes(batch.items), self._embed_codes(batch.targets)
        both = torch.stack([batch.items, batch.targets])  # (2, B, W, L)
        distinct, places = torch.unique(both, return_inverse=True)
        embedded = self._embed_codes(distinct).index_select(0, places.flatten())
        history, targets = embedded.view(*both.shape, -1)
        return history, targets

    def _embed_codes(self, items: Tensor) -> Tensor:
        codes = {n: self.get_buffer(f"catalogue_{n}")[items] for n in self._catalogue_names}
        return self.item_features(codes, self.several_item_values)

    @torch.no_grad()
    def rates_of(self, batch: Batch) -> list[Tensor]:
        """What the head reads of the users' own rates: (B, W, L, R), or nothing.

        It depends on no parameter: whoever needs it more than once gives it to `forward`.
        """
        return self._rates(batch, batch.targets, newest=False)

    def _rates(self, batch: Batch, targets: Tensor, *, newest: bool) -> list[Tensor]:
        """What the user liked so far, of the targets' kinds: (B, W, T, R), or nothing."""
        if self._rate_features is None:
            return []
        tables = {name: self.get_buffer(f"catalogue_{name}") for name in self._rate_features}
        history = {name: table[batch.items] for name, table in tables.items()}
        wanted = {name: table[targets] for name, table in tables.items()}
        return [own_rates(batch.feedback, history, wanted, newest=newest)]

    def _encode(
        self, items: Tensor, batch: Batch, dropout_key: Tensor | None, shared_look_ups: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The history after all layers (B, W, L, d), the routes and their probabilities."""
        x = self._history(items, batch, shared_look_ups)  # (B, W, L, d)
        x = keyed_dropout(x, self.dropout, dropout_key, site=0)
        user = self.user_embedding.expand(len(x), -1)  # (B, E)
        below = x.new_zeros(len(x), self.num_experts)  # gate probabilities of the layer below
        routes, chosen = [], []
        for number, layer in enumerate(cast("Iterable[Layer]", self.layers)):
            site = 4 * number + 1
            flat = layer.attention_norm(x).flatten(0, 1)  # (B W, L, d)
            attended = layer.attention(flat).unflatten(0, x.shape[:2])
            a = x + keyed_dropout(attended, self.dropout, dropout_key, site)
            h = layer.expert_norm(a)
            if self.gate_input == "hidden":
                z = masked_mean(h, batch.real)
            else:
                z = torch.cat([masked_mean(items, batch.items > 0), below], dim=-1)
            route, below = layer.gate(torch.cat([z, user], dim=-1))
            p = below.gather(-1, route.unsqueeze(-1)).squeeze(-1)  # (B,)
            expert = layer.experts(h, route, dropout=self.dropout, key=dropout_key, site=site + 1)
            if self.gate_mode == "switch":
                expert = p.view(-1, 1, 1, 1) * expert
            x = a + expert
            if layer.user_network is not None:
                x = x + layer.user_network(h, dropout=self.dropout, key=dropout_key, site=site + 2)
            routes.append(route)
            chosen.append(p)
        return x, torch.stack(routes, dim=-1), torch.stack(chosen, dim=-1)

    def _history(self, items: Tensor, batch: Batch, shared_look_ups: bool) -> Tensor:
        x = items if self.input_projection is None else self.input_projection(items)
        places = torch.arange(x.shape[2], device=x.device)
        if not shared_look_ups:  # per-record gradients need a row per record
            places = places.expand(x.shape[:3])
        x = x + self.positions(places)
        if self.feedback is not None:
            x = x + self.feedback(batch.feedback)
        return x

    def _predict(
        self,
        x: Tensor,
        targets: Tensor,
        rates: list[Tensor],
        batch: Batch,
        dropout_key: Tensor | None,
    ) -> Tensor:
        user = self.user_embedding.expand(len(x), -1)  # (B, E)
        if self.user_features is not None:
            known = self.user_features(batch.user_codes, self.several_user_values)
            user = torch.cat([user, known], dim=-1)
        user = user[:, None, None].expand(*x.shape[:3], -1)
        seen = torch.cat([self.output_norm(x), targets, user, *rates], dim=-1)
        inner = keyed_dropout(F.relu(self.head["up"](seen)), self.dropout, dropout_key, site=1000)
        logits: Tensor = self.head["down"](inner).squeeze(-1)  # (B, W, L)
        if self.user_factors is not None:  # the user's own taste: matrix factorisation
            logits = logits + (targets * self.user_factors[:, None, None]).sum(-1)
        return logits

    def _with_biases(self, logits: Tensor, targets: Tensor, dropout_key: Tensor | None) -> Tensor:
        """Adds what does not depend on the history: the target's bias and the user's own."""
        if self.item_bias is not None:
            bias = self.item_bias(targets)  # (B, W, L, 1)
            logits = logits + keyed_dropout(bias, self.dropout, dropout_key, site=1001).squeeze(-1)
        return logits if self.user_bias is None else logits + self.user_bias.view(-1, 1, 1)


def _zeros(rows: int) -> nn.Embedding:
    """A table of one number per row, 0 to begin with."""
    return nn.Embedding.from_pretrained(torch.zeros(rows, 1), freeze=False, padding_idx=0)
