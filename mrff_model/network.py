"""The MRFF network (AAAI 2025, section 3), from the history of one user or many to logits.

Shapes: B users, W windows each, L positions, d the hidden width, K experts per layer. Windows are
padded at the right; position t holds the item before the target, so a window's first position
holds the start code 0.

Public and group parameters are the same for all B users. Private ones have a leading dimension of
users: 1 in the module as built (serial training of one user), B rows when a cohort is computed at
once with `torch.func.functional_call`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mrff_model.backbones import build_backbone
from mrff_model.batch import Batch, Before, Output, Targets
from mrff_model.block import Block, NoBlock, place_of
from mrff_model.dropout import Dropout
from mrff_model.evidence import ROUTE_SITE, Evidence, Routed, Weighed, history_as_targets
from mrff_model.experts import ExpertBank, UserNetwork
from mrff_model.experts_at_prediction import met, said, said_by_chosen
from mrff_model.features import DatasetFeatures, FeatureEmbedding, ItemTower
from mrff_model.gate import SEES, Gate, GateHistory, masked_mean
from mrff_model.head_inputs import HeadInputs
from mrff_model.heads import HeadSizes, Seen, head_of
from mrff_model.heads.base import FEEDBACK_CODES
from mrff_model.history_times import HistoryTimes
from mrff_model.item_ids import ITEM_IDS
from mrff_model.item_statistics import ItemStatistics
from mrff_model.next_head import NextHead, surprise_among_all
from mrff_model.same_time import SAME_TIME
from mrff_model.shape import NetworkShape
from mrff_model.shared import Network

# Places of dropout; masks depend on these numbers, and so does every trained result.
HEAD_SITE, ITEM_BIAS_SITE = 1000, 1001


class Beforehand(NamedTuple):
    """What is known of a batch's users before the network is asked.

    Args:
        rates: `MRFFNetwork.rates_of` the batch.
        evidence: their records whose counted labels weigh groups where nobody trains
            (`mrff_model.evidence`); None: gates do. Who trains has a dropout key, and there
            groups are drawn by the batch itself.
    """

    rates: list[Tensor] | None = None
    evidence: Batch | None = None


NOTHING_KNOWN = Beforehand()


class MRFFNetwork(Network):
    """A click's logit, the next item's surprise, or both, for every position of a history.

    Modules are made in the order in which their initial values are drawn, and parameters are named
    by scope in `mrff_model.scopes`.
    """

    def __init__(self, shape: NetworkShape, features: DatasetFeatures) -> None:
        super().__init__()
        self.kept_private = shape.private_parameters
        self.time_rule = SAME_TIME[shape.same_time]
        self.dropout, self.num_experts = shape.dropout, shape.num_experts
        self.by_evidence = shape.gate_mode == "evidence"
        clicks = shape.objective != "next"

        head = head_of(shape)
        width = shape.feature_dim if head.reads_items else 0
        known = ITEM_IDS[shape.item_ids](features, shape.hash_rows)
        self.item_features = ItemTower(known, width, shape.initial_scale, shape.feature_mix)
        users = features.users if shape.user_features and clicks and head.reads_items else ()
        self.user_features = (
            FeatureEmbedding(users, shape.feature_dim, shape.initial_scale) if users else None
        )
        item_width = self.item_features.width
        dim = shape.hidden_dim or item_width
        self.window_length, self.shows_labels = shape.window_length, shape.history_feedback
        self.input_projection, self.positions, self.feedback = None, None, None
        self.history_times = None
        if head.reads_states:
            if dim != item_width:
                self.input_projection = nn.Linear(item_width, dim)
            self.positions = nn.Embedding(shape.window_length, dim)
            self.feedback = nn.Embedding(FEEDBACK_CODES, dim) if shape.history_feedback else None
            self.history_times = HistoryTimes(dim) if shape.history_times else None
        self.layers = nn.ModuleList(
            _block(shape, dim, item_width) if head.reads_states else NoBlock()
            for _ in range(shape.num_layers)
        )
        self.output_norm = nn.LayerNorm(dim) if head.reads_states else None
        user_width = shape.user_embedding_dim if head.reads_items else 0
        self.rows = len(next(iter(features.catalogue.values())))
        self.item_statistics, self.inputs = None, None
        if shape.item_statistics and clicks:
            self.item_statistics = ItemStatistics(
                self.rows, shape.closed_form_factors, noised=shape.noised_statistics
            )
        if clicks:
            self.inputs = HeadInputs(
                shape, tuple(features.compared), self.item_features, self.item_statistics
            )
        sizes = HeadSizes(
            states=dim,
            items=item_width,
            users=user_width + (self.user_features.width if self.user_features else 0),
            inner=shape.head_dim,
            start=tuple(self.inputs.start if self.inputs else ()),
            has_path=self.item_statistics is not None,
            has_feedback=shape.history_feedback,
        )
        self.head = head(sizes) if clicks else None
        self.user_embedding = nn.Parameter(torch.zeros(1, user_width))
        self.user_bias = nn.Parameter(torch.zeros(1)) if shape.user_bias and clicks else None
        self.user_factors = nn.Parameter(torch.zeros(1, item_width)) if shape.user_factors else None
        self.item_bias = _zeros(self.rows) if shape.item_bias and clicks else None
        for table in (self.positions, self.feedback):
            if table is not None:
                nn.init.normal_(table.weight, std=shape.initial_scale)
        self.next_head = None
        if shape.objective != "click":
            self.next_head = NextHead(dim, item_width, self.rows)

    def forward(
        self,
        batch: Batch,
        dropout_key: Tensor | None = None,
        *,
        shared_look_ups: bool = False,
        rank_at: Tensor | None = None,
        known: Beforehand = NOTHING_KNOWN,
    ) -> Output:
        """What each head says, the routes and their probabilities.

        Args:
            batch: records of B users.
            dropout_key: (B,) int64, a key per user and step; None switches dropout off.
            shared_look_ups: see `ItemTower.embed_distinct`.
            rank_at: (B, P) positions of the only window; scores of the whole catalogue are wanted
                there, and no surprise anywhere.
            known: what was found out before.
        """
        dropout = Dropout(self.dropout, dropout_key)
        x, embedded, logits, routed = self._through(batch, dropout, shared_look_ups, known.rates)
        if self.by_evidence:
            if dropout_key is not None:
                weighed = self._weighed(batch, embedded, logits, routed)
                routed = routed.to(weighed.drawn(dropout.at(ROUTE_SITE)))
                groups = routed.groups
                logits = logits + said_by_chosen(self.blocks, embedded, groups, dropout)
            else:
                weighed = Weighed.by_gates(routed)
                if known.evidence is not None:
                    weighed = self._weighed_by(known.evidence, shared_look_ups)
                routed = routed.to(weighed.likeliest())
                logits = self._mixed(weighed, logits, embedded)
        surprise, scores = torch.zeros_like(logits), logits.new_zeros(len(x), 0, 0)
        if self.next_head is not None and rank_at is not None:
            at = rank_at.unsqueeze(-1).expand(-1, -1, x.shape[-1])
            scores = self._scores_of_all(x[:, 0].gather(1, at))
        elif self.next_head is not None:
            surprise = self._surprise(x, batch, embedded, shared_look_ups)
        logits, surprise = logits.to(x.dtype), surprise.to(x.dtype)  # where products are rounded
        return Output(logits, surprise, scores, routed.groups, routed.chosen)

    def score_items(self, history: Batch, candidates: Tensor) -> Output:
        """What each head says of ``candidates`` after a history, without dropout.

        Args:
            history: one window (B, 1, L) without padding for each user, newest item last; targets,
                labels and mask are not read. Its feedback may choose groups.
            candidates: (N,) int64 item codes for all users, or (B, N).

        Returns:
            Logits (B, N); scores (B, 1, N) of the candidates, where the next item is learned;
            routes and chosen as in `forward`.
        """
        no_dropout = Dropout(0.0, None)
        items = self.item_features.embed(history.items)  # (B, 1, L, item width)
        x = self._positioned(items, history, shared_look_ups=False)
        x, routed = self._through_layers(x, items, history, no_dropout)
        wanted = candidates.expand(len(x), -1).unsqueeze(1)  # (B, 1, N)
        embedded = self.item_features.embed(candidates).expand(len(x), -1, -1).unsqueeze(1)
        targets = Targets(wanted, embedded, self._rates(history, wanted, newest=True))
        before = Before(items, history, newest=True)
        logits = self._logits(x[:, :, -1:], before, targets, no_dropout)  # (B, 1, N)
        if self.by_evidence:
            weighed = self._weighed_by(history_as_targets(history), shared_look_ups=False)
            routed = routed.to(weighed.likeliest())
            logits = self._mixed(weighed, logits, embedded)
        scores = logits.new_zeros(len(x), 0, 0)
        if self.next_head is not None:
            queries = self._queries(x[:, :, -1]).unsqueeze(-1)  # (B, 1, item width, 1)
            scores = (embedded @ queries).squeeze(-1) + self.next_head.bias(wanted)
        surprise = torch.zeros_like(logits)
        return Output(logits.squeeze(1), surprise, scores, routed.groups, routed.chosen)

    @torch.no_grad()
    def rates_of(self, batch: Batch) -> list[Tensor]:
        """What the head reads of users' own rates and public ones: (B, W, L, R) each, or nothing.

        It depends on no trained parameter: whoever needs it more than once gives it to `forward`.
        """
        return self._rates(batch, batch.targets, newest=False)

    def _rates(self, batch: Batch, targets: Tensor, *, newest: bool) -> list[Tensor]:
        return [] if self.inputs is None else self.inputs.of(batch, targets, newest=newest)

    def floats_per_position(self) -> int:
        """About how many numbers a training step keeps per position (of a window padded to L)."""
        length = self.window_length
        floats = 6 * self.item_features.width
        if self.positions is not None:
            floats += 4 * self.positions.embedding_dim
        if self.head is not None:
            floats += self.head.floats_per_position(length)
        for block in self.blocks:
            floats += block.floats_per_position(length)
        if self.by_evidence:  # logits by each combination of groups, their logarithms, and theirs
            floats += 3 * self.num_experts ** len(self.layers)
        return floats + (self.inputs.floats_per_position() if self.inputs else 0)

    @property
    def blocks(self) -> Sequence[Block]:
        """The layers, where the head reads states."""
        return cast("Sequence[Block]", self.layers)

    def _embed_both(self, batch: Batch, shared_look_ups: bool) -> tuple[Tensor, Tensor]:
        """The items of the history and the targets."""
        if not shared_look_ups:
            return self.item_features.embed(batch.items), self.item_features.embed(batch.targets)
        both = torch.stack([batch.items, batch.targets])  # (2, B, W, L)
        history, targets = self.item_features.embed_distinct(both)
        return history, targets

    def _positioned(self, items: Tensor, batch: Batch, shared_look_ups: bool) -> Tensor:
        """What enters the first layer: item, position, feedback and gap, (B, W, L, d)."""
        if self.positions is None:
            return items
        x = items if self.input_projection is None else self.input_projection(items)
        places = torch.arange(x.shape[2], device=x.device)  # (L,)
        if not shared_look_ups:  # per-record gradients need a row per record
            places = places.expand(x.shape[:3])  # (B, W, L)
        x = x + self.positions(places)
        if self.history_times is not None:
            x = x + self.history_times(batch)
        return x if self.feedback is None else x + self.feedback(self.time_rule.feedback(batch))

    def _through(
        self, batch: Batch, dropout: Dropout, shared_look_ups: bool, rates: list[Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor, Routed]:
        """The history's states, the targets' embeddings, their logits, and the gates' choice."""
        items, embedded = self._embed_both(batch, shared_look_ups)  # (B, W, L, item width) each
        x = self._positioned(items, batch, shared_look_ups)
        x, routed = self._through_layers(x, items, batch, dropout)
        if rates is None:
            rates = self.rates_of(batch)
        targets = Targets(batch.targets, embedded, rates)
        logits = self._logits(x, Before(items, batch, newest=False), targets, dropout)
        return x, embedded, logits, routed

    @torch.no_grad()
    def _weighed(self, batch: Batch, embedded: Tensor, logits: Tensor, gates: Routed) -> Weighed:
        """The groups by the batch's counted labels."""
        evidence = Evidence(logits, said(self.blocks, embedded), batch.labels, batch.mask)
        return Weighed.by_gates(gates).after(evidence)

    def _weighed_by(self, batch: Batch, shared_look_ups: bool) -> Weighed:
        """The same of another batch, without dropout."""
        no_dropout = Dropout(0.0, None)
        _, embedded, logits, gates = self._through(batch, no_dropout, shared_look_ups, None)
        return self._weighed(batch, embedded, logits, gates)

    def _mixed(self, weighed: Weighed, logits: Tensor, embedded: Tensor) -> Tensor:
        """Logits by all groups of targets (B, W, T, item width), each by its weight."""
        blocks = self.blocks
        return weighed.mixed(logits, said(blocks, embedded), met(blocks, embedded))

    def _through_layers(
        self, x: Tensor, items: Tensor, batch: Batch, dropout: Dropout
    ) -> tuple[Tensor, Routed]:
        """The history after all layers (B, W, L, d), and what the gates choose."""
        x = dropout(x)
        user = self.user_embedding.expand(len(x), -1)  # (B, E)
        earlier = self._mean_of_earlier(items, batch)
        history = GateHistory(items, batch.items > 0, batch.real, user, earlier)
        below = x.new_zeros(len(x), self.num_experts)  # gate probabilities of the layer below
        choices = []
        for number, block in enumerate(self.blocks):
            x, choice = block(x, history, below, dropout.at(place_of(number)))
            below = choice.probabilities
            choices.append(choice)
        seen = batch.earlier[0] if batch.earlier else batch.items
        return x, Routed.by_gates(choices, (seen > 0).flatten(1).sum(-1))

    def _mean_of_earlier(self, items: Tensor, batch: Batch) -> Tensor:
        """The mean embedding of the items before the window, (B, item width)."""
        if not batch.earlier:
            return items.new_zeros(len(items), items.shape[-1])
        earlier = batch.earlier[0][:, None]  # (B, 1, E)
        return masked_mean(self.item_features.embed(earlier), earlier > 0)

    def _queries(self, x: Tensor) -> Tensor:
        """What items are multiplied with, (B, ..., item width)."""
        assert self.next_head is not None
        assert self.output_norm is not None
        queries: Tensor = self.next_head(self.output_norm(x))
        if self.user_factors is None:
            return queries
        return queries + self.user_factors.view(-1, *[1] * (x.dim() - 2), queries.shape[-1])

    def _scores_of_all(self, x: Tensor) -> Tensor:
        """(B, ..., d) -> scores of items 1, 2, ... as the next, (B, ..., items)."""
        assert self.next_head is not None
        return self.next_head.scores_of_all(self._queries(x), self.item_features.embed_all())

    def _surprise(self, x: Tensor, batch: Batch, embedded: Tensor, shared_look_ups: bool) -> Tensor:
        """(B, W, L) of the targets among the drawn items, or among all of them."""
        assert self.next_head is not None
        if not batch.drawn:
            return surprise_among_all(self._scores_of_all(x), batch.targets)
        tower = self.item_features
        look_up = tower.embed_distinct if shared_look_ups else tower.embed
        taken = embedded, batch.targets
        drawn = look_up(batch.drawn[0]), batch.drawn[0]
        return self.next_head.surprise(self._queries(x), taken, drawn)

    def _labels_shown(self, batch: Batch) -> Tensor:
        """(B, W, L) codes of feedback that a causal head may read."""
        if not self.shows_labels:
            return torch.zeros_like(batch.feedback)
        return self.time_rule.feedback(batch)

    def _logits(self, x: Tensor, history: Before, targets: Targets, dropout: Dropout) -> Tensor:
        """(B, W, T): the head's, the user's own taste, and the biases of target and user.

        ``x`` is (B, W, T, d), or (B, W, 1, d) where all targets follow one history.
        """
        if self.head is None:
            return x.new_zeros(targets.items.shape)
        user = self.user_embedding.expand(len(x), -1)  # (B, E)
        if self.user_features is not None:
            user = torch.cat([user, self.user_features(history.batch.user_codes)], dim=-1)
        user = user[:, None, None].expand(*x.shape[:3], -1)  # (B, W, T or 1, user width)
        seen = Seen(
            states=x if self.output_norm is None else self.output_norm(x),
            targets=targets.embedded,
            users=user,
            inputs=targets.rates,
            history=history.items,
            feedback=self._labels_shown(history.batch),
            is_item=history.batch.items > 0,
            newest=history.newest,
        )
        logits: Tensor = self.head(seen, dropout.at(HEAD_SITE))
        if self.user_factors is not None:  # matrix factorisation
            logits = logits + (targets.embedded * self.user_factors[:, None, None]).sum(-1)
        if self.item_bias is not None:
            bias = dropout.at(ITEM_BIAS_SITE)(self.item_bias(targets.items))  # (B, W, T, 1)
            logits = logits + bias.squeeze(-1)
        return logits if self.user_bias is None else logits + self.user_bias.view(-1, 1, 1)


def _block(shape: NetworkShape, dim: int, item_width: int) -> Block:
    """One layer's modules."""
    attention = build_backbone(shape.backbone, dim, shape.num_heads, shape.window_length)
    width = dim if shape.gate_input == "hidden" else item_width + shape.num_experts
    gate = Gate(
        SEES[shape.gate_input], width + shape.user_embedding_dim, shape.num_experts, shape.gate_mode
    )
    at_target = shape.gate_mode == "evidence"
    reads, out = (item_width, 1) if at_target else (dim, dim)
    experts = ExpertBank(shape.num_experts, reads, shape.expert_dim or dim, out=out)
    inner = shape.user_network_dim
    own = UserNetwork(dim, inner) if inner else None
    return Block(dim, attention, gate, experts, own)


def _zeros(rows: int) -> nn.Embedding:
    """A table of one number per row, 0 to begin with."""
    return nn.Embedding.from_pretrained(torch.zeros(rows, 1), freeze=False, padding_idx=0)
