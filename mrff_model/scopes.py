"""The three scopes: which parameter leaves a client, and under which name.

Public parameters are averaged over all users, each expert of the group scope over the users who
chose it, private ones never leave (MRFF, section 3). One table assigns every parameter name to
exactly one scope; a name that it does not know is an error, never a default.

In the network the K experts of a layer are one tensor ``layers.0.experts.up_weight`` of shape
(K, ...). Outside it every expert is an array of its own, ``layers.0.experts.3.up_weight``, so that
an expert nobody chose is simply absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

Scope = Literal["public", "group", "private"]

_LAYER = r"layers\.\d+\."
_SCOPES: tuple[tuple[str, Scope], ...] = (
    (r"item_features\..+", "public"),
    (r"user_features\..+", "public"),
    (r"input_projection\.(weight|bias)", "public"),
    (r"positions\.weight", "public"),
    (r"feedback\.weight", "public"),
    (_LAYER + r"(attention|attention_norm|expert_norm|gate)\..+", "public"),
    (r"output_norm\.(weight|bias)", "public"),
    (r"head\..+", "public"),
    (_LAYER + r"experts\.(up|down)_(weight|bias)", "group"),
    (_LAYER + r"user_network\.(up|down)_(weight|bias)", "private"),
    (r"user_embedding", "private"),
    (r"user_bias", "private"),
)
_BANK_NAME = re.compile(r"layers\.(\d+)\.experts\.([a-z_]+)")
_EXPERT_NAME = re.compile(r"layers\.(\d+)\.experts\.(\d+)\.([a-z_]+)")


def scope_of(name: str) -> Scope:
    """The scope of a network parameter.

    Raises:
        KeyError: the name is in no scope, or in more than one.
    """
    found = {scope for pattern, scope in _SCOPES if re.fullmatch(pattern, name)}
    if len(found) != 1:
        claimed = "no scope" if not found else " and ".join(sorted(found))
        raise KeyError(
            f"parameter {name!r} belongs to {claimed}; mrff_model/scopes.py must name one"
        )
    return found.pop()


def names_by_scope(names: Iterable[str]) -> dict[Scope, list[str]]:
    """All given parameter names, in order, each under its one scope."""
    split: dict[Scope, list[str]] = {"public": [], "group": [], "private": []}
    for name in names:
        split[scope_of(name)].append(name)
    return split


def expert_name(layer: int, expert: int, weight: str) -> str:
    """The name of one expert's array outside the network."""
    return f"layers.{layer}.experts.{expert}.{weight}"


def expert_of(name: str) -> tuple[int, int]:
    """(layer, expert) of an expert array's name.

    Raises:
        KeyError: the name is not an expert's.
    """
    match = _EXPERT_NAME.fullmatch(name)
    if match is None:
        raise KeyError(f"{name!r} is not an expert's array; expected layers.L.experts.K.NAME")
    return int(match[1]), int(match[2])


def network_name(name: str) -> str:
    """What an array outside the network is called in it: an expert's array is part of a bank."""
    match = _EXPERT_NAME.fullmatch(name)
    return name if match is None else f"layers.{match[1]}.experts.{match[3]}"


def split_bank(bank: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Banks ``layers.L.experts.NAME`` (K, ...) as one array per expert."""
    experts = {}
    for name, stacked in bank.items():
        layer, weight = _bank_parts(name)
        for expert, array in enumerate(stacked):
            experts[expert_name(layer, expert, weight)] = array
    return experts


def join_bank(
    experts: Mapping[str, Tensor], bank_names: Iterable[str], size: int
) -> dict[str, Tensor]:
    """The inverse of `split_bank` for a bank of ``size`` experts.

    Raises:
        KeyError: an expert is missing.
    """
    return {
        name: torch.stack([experts[expert_name(layer, k, weight)] for k in range(size)])
        for name, (layer, weight) in ((name, _bank_parts(name)) for name in bank_names)
    }


def _bank_parts(name: str) -> tuple[int, str]:
    match = _BANK_NAME.fullmatch(name)
    if match is None:
        raise KeyError(f"{name!r} is not an expert bank; expected layers.L.experts.NAME")
    return int(match[1]), match[2]
