"""The network of one user as their device calls it, whatever it has learned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mrff.ops.histories import windows_of
from mrff.ops.user_model import UserModel

PROBABILITIES, SCORES = "probabilities", "scores"
OUTPUTS: dict[str, dict[str, Any]] = {
    PROBABILITIES: {"dtype": "float32", "shape": ["N"], "meaning": "of label 1"},
    SCORES: {
        "dtype": "float32", "shape": ["N"],
        "meaning": "of being the user's next item, the higher the likelier; "
        "softmax over the whole catalogue makes probabilities of them",
    },
    "groups": {"dtype": "int64", "shape": ["layers"], "meaning": "group from 0, per layer"},
    "group_probabilities": {"dtype": "float32", "shape": ["layers"]},
}  # fmt: skip


class DeviceModel(nn.Module):
    """The network of one user, with their parameters and features as constants."""

    def __init__(self, user: UserModel) -> None:
        super().__init__()
        self.network = user.network
        self.code_names = list(user.user_codes)
        for name in self.code_names:
            self.register_buffer(f"codes_{name}", user.user_codes[name].clone())
        self.register_buffer("earlier", user.earlier.clone())
        self.reads_times = user.times is not None
        self.past_names = [f"past_{place}" for place in range(len(user.past))]
        for name, field in zip(self.past_names, user.past, strict=True):
            self.register_buffer(name, field.clone())

    @property
    def scores(self) -> list[str]:
        """Names of what it says of candidates: what the run has learned."""
        learned = {
            PROBABILITIES: self.network.head is not None,
            SCORES: self.network.next_head is not None,
        }
        return [name for name, has in learned.items() if has]

    @property
    def output_names(self) -> list[str]:
        """Names of what `forward` returns."""
        return [*self.scores, "groups", "group_probabilities"]

    @property
    def input_names(self) -> list[str]:
        """Names of what `forward` takes."""
        return ["history", "feedback", "candidates", *(["times"] if self.reads_times else [])]

    def forward(
        self, history: Tensor, feedback: Tensor, candidates: Tensor, times: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Scores ``candidates`` after ``history``.

        Args:
            history: (n,) int64 item codes, newest last, 0 <= n < window-length.
            feedback: (n,) int64, 2 for liked, 1 for not.
            candidates: (N,) int64 item codes.
            times: (n + 1,) int64 of the history and of the question, where the network reads them.

        Returns:
            By `output_names`: probabilities of a click (N,), scores of being the next item (N,),
            the user's group per layer (layers,), its probability (layers,).
        """
        codes = {name: self.get_buffer(f"codes_{name}") for name in self.code_names}
        batch = windows_of(history[None], feedback[None], codes)
        earlier = self.get_buffer("earlier")
        batch = batch._replace(earlier=(earlier,) if earlier.shape[1] else ())
        if times is not None:
            batch = batch._replace(times=(times[None, None],))
        batch = batch._replace(past=tuple(self.get_buffer(name) for name in self.past_names))
        output = self.network.score_items(batch, candidates)
        said = []
        if PROBABILITIES in self.scores:
            said.append(torch.sigmoid(output.logits[0]))
        if SCORES in self.scores:
            said.append(output.scores[0, 0])
        return (*said, output.routes[0], output.chosen[0])
