"""The three scopes: which parameter leaves a client, and under which name.

Public parameters are averaged over all users, each expert of the group scope over the users who
chose it, private ones never leave (MRFF, section 3). One table assigns every parameter name to
exactly one scope; a name that it does not know is an error, never a default.

Rivals of MRFF keep more on the client (`KEPT_PRIVATE`): the prediction head as well, or everything.

In the network the K experts of a layer are one tensor ``layers.0.experts.up_weight`` of shape
(K, ...). Outside it every expert is an array of its own, ``layers.0.experts.3.up_weight``, so that
an expert nobody chose is simply absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Scope = Literal["public", "group", "private"]
Array = TypeVar("Array")

_LAYER = r"layers\.\d+\."
_SCOPES: tuple[tuple[str, Scope], ...] = (
    (r"item_features\..+", "public"),
    (r"user_features\..+", "public"),
    (r"input_projection\.(weight|bias)", "public"),
    (r"positions\.weight", "public"),
    (r"feedback\.weight", "public"),
    (r"history_times\.table\.weight", "public"),
    (_LAYER + r"(attention|attention_norm|expert_norm|gate)\..+", "public"),
    (r"output_norm\.(weight|bias)", "public"),
    (r"head\..+", "public"),
    (r"item_bias\.weight", "public"),
    (r"next_head\.(query|item_bias)\.weight", "public"),
    (r"item_table\.weight", "public"),
    (r"item_statistics\.(rates|prior|noise|vectors)", "public"),
    (_LAYER + r"experts\.(up|down)_(weight|bias)", "group"),
    (_LAYER + r"user_network\.(up|down)_(weight|bias)", "private"),
    (r"user_embedding", "private"),
    (r"user_bias", "private"),
    (r"user_factors", "private"),
    (r"user_vector", "private"),
)
KEPT_PRIVATE: Mapping[str, str] = {"user": "", "head": r"head\..+", "all": r".+"}
"""What a run keeps private beside the private scope, by the value of ``private-parameters``."""

_BANK_NAME = re.compile(r"layers\.(\d+)\.experts\.([a-z_]+)")
_EXPERT_NAME = re.compile(r"layers\.(\d+)\.experts\.(\d+)\.([a-z_]+)")
_BODY = re.compile(  # of any copy of the network: what comes before its heads
    r"(clusters\.\d+\.)?"
    r"(item_features|user_features|input_projection|positions|feedback|history_times|layers"
    r"|output_norm)\..+"
)
_CLUSTER_NAME = re.compile(r"clusters\.(\d+)\.(.+)")


@lru_cache(maxsize=4096)
def scope_of(name: str, kept_private: str = "user") -> Scope:
    """The scope of a network parameter.

    Args:
        kept_private: a key of `KEPT_PRIVATE`.

    Raises:
        KeyError: the name is in no scope, or in more than one.
    """
    found = {scope for pattern, scope in _SCOPES if re.fullmatch(pattern, name)}
    if len(found) != 1:
        claimed = "no scope" if not found else " and ".join(sorted(found))
        raise KeyError(
            f"parameter {name!r} belongs to {claimed}; mrff_model/scopes.py must name one"
        )
    kept = re.fullmatch(KEPT_PRIVATE[kept_private], name) and not is_fixed(name)
    return "private" if kept else found.pop()


def is_fixed(name: str) -> bool:
    """Whether a shared array stays as it was before the first round, in any copy of the network."""
    return "item_statistics." in name


def names_by_scope(names: Iterable[str], kept_private: str = "user") -> dict[str, list[str]]:
    """All given parameter names, in order, each under its one scope."""
    split: dict[str, list[str]] = {"public": [], "group": [], "private": []}
    for name in names:
        split[scope_of(name, kept_private)].append(name)
    return split


def expert_names(bank: str, size: int) -> list[str]:
    """The names of the arrays of a bank ``layers.L.experts.NAME`` of ``size`` experts."""
    layer, weight = _bank_parts(bank)
    return [f"layers.{layer}.experts.{expert}.{weight}" for expert in range(size)]


def is_expert(name: str) -> bool:
    """Whether an array outside the network is one expert's."""
    return _EXPERT_NAME.fullmatch(name) is not None


def has_expert(name: str) -> bool:
    """Whether `expert_of` knows the array: one expert's, or a copy's of a whole network."""
    return is_expert(name) or _CLUSTER_NAME.fullmatch(name) is not None


def cluster_name(cluster: int, name: str) -> str:
    """The name of a parameter in one of several copies of the whole network."""
    return f"clusters.{cluster}.{name}"


def cluster_part(arrays: Mapping[str, Array], cluster: int) -> dict[str, Array]:
    """One copy's arrays under their own names."""
    matches = {name: _CLUSTER_NAME.fullmatch(name) for name in arrays}
    return {m[2]: arrays[n] for n, m in matches.items() if m is not None and int(m[1]) == cluster}


def expert_of(name: str) -> tuple[int, int]:
    """(layer, expert) of an expert array's name; copy k of a whole network is expert k of layer 0.

    Raises:
        KeyError: the name is not an expert's.
    """
    match = _EXPERT_NAME.fullmatch(name)
    if match is not None:
        return int(match[1]), int(match[2])
    match = _CLUSTER_NAME.fullmatch(name)
    if match is None:
        raise KeyError(
            f"{name!r} is not an expert's array; expected layers.L.experts.K.NAME, or "
            "clusters.K.NAME"
        )
    return 0, int(match[1])


def network_name(name: str) -> str:
    """What an array outside the network is called in it: an expert's array is part of a bank."""
    match = _EXPERT_NAME.fullmatch(name)
    return name if match is None else f"layers.{match[1]}.experts.{name.rpartition('.')[2]}"


def rate_kind(name: str) -> Literal["gate", "item_bias", "body", "other"]:
    """Which learning rate a shared parameter has; that of any copy of the network alike."""
    if ".gate." in name:
        return "gate"
    if _BODY.fullmatch(name):
        return "body"
    return "item_bias" if name.endswith("item_bias.weight") else "other"


def split_bank(banks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Banks ``layers.L.experts.NAME`` (K, ...) as one array per expert, a view of its bank."""
    return {
        expert: array
        for name, bank in banks.items()
        for expert, array in zip(expert_names(name, len(bank)), bank, strict=True)
    }


def _bank_parts(name: str) -> tuple[int, str]:
    match = _BANK_NAME.fullmatch(name)
    if match is None:
        raise KeyError(f"{name!r} is not an expert bank; expected layers.L.experts.NAME")
    return int(match[1]), match[2]
