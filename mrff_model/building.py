"""Builds the network and takes it apart into its scopes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from mrff_model.features import DatasetFeatures, FeatureSpec
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import names_by_scope, scope_of, split_bank
from mrff_model.shape import NetworkShape
from mrff_model.shared import Network

Arrays = dict[str, np.ndarray]
Made = TypeVar("Made", bound=Network)


class FeatureSchema(Protocol):
    """What a dataset's schema says of its features."""

    @property
    def item_features(self) -> Sequence[FeatureSpec]: ...
    @property
    def user_features(self) -> Sequence[FeatureSpec]: ...


def build_network(
    shape: Mapping[str, Any],
    schema: FeatureSchema,
    item_codes: Mapping[str, np.ndarray],
    *,
    seed: int,
) -> MRFFNetwork:
    """MRFF's network as it starts, the same on every machine for the same ``seed``.

    Args:
        shape: the fields of `NetworkShape`.
        item_codes: the catalogue, (items + 1,) or (items + 1, M) by feature.
        seed: of all initial values, those of a new user's private parameters included.
    """
    features = features_of(schema, item_codes)
    return made(lambda: MRFFNetwork(NetworkShape(**shape), features), seed)


def features_of(schema: FeatureSchema, item_codes: Mapping[str, np.ndarray]) -> DatasetFeatures:
    """What a network is made for: features and catalogue."""
    catalogue = {name: torch.from_numpy(codes) for name, codes in item_codes.items()}
    return DatasetFeatures(schema.item_features, schema.user_features, catalogue)


def made(make: Callable[[], Made], seed: int) -> Made:
    """The network that ``make`` makes, all of its initial values drawn from ``seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
    parameters = [name for name, _ in network.named_parameters()]
    names_by_scope(parameters, network.kept_private)  # fails on an unknown name
    return network


def tensors_of(network: Network, scope: str) -> dict[str, Tensor]:
    """The network's own tensors of one scope, by parameter name (experts as banks).

    Private ones have a leading dimension of users, here 1, whether the module has it or not.
    """
    parameters = dict(network.named_parameters())
    names = names_by_scope(parameters, network.kept_private)[scope]
    tensors = {name: parameters[name].detach() for name in names if parameters[name].numel()}
    if scope == "private":
        return {name: value if _has_rows(name) else value[None] for name, value in tensors.items()}
    return tensors


def parameters_of_one(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One user's private parameters (...), without a dimension of users, as the module has them."""
    return {name: value[None] if _has_rows(name) else value for name, value in own.items()}


def rows_suffice(network: MRFFNetwork) -> bool:
    """Whether the module itself computes many users, each with a row of their own parameters.

    Otherwise some parameters that the module has once are private: a cohort needs `torch.vmap`.
    """
    return network.kept_private == "user"


def has_shared_items(network: MRFFNetwork) -> bool:
    """Whether an item is the same to all users: nothing of its embedding is private."""
    return not any(name.startswith("item_features.") for name in tensors_of(network, "private"))


def initial_shared(network: Network, *, experts_alike: bool = False) -> tuple[Arrays, Arrays]:
    """The network's public arrays, and one array per weight of every expert.

    Args:
        experts_alike: every expert of a layer starts as the first; else from its own values.
    """
    public = {name: _array(value) for name, value in tensors_of(network, "public").items()}
    banks = tensors_of(network, "group")
    if experts_alike:
        banks = {name: bank[:1].expand_as(bank) for name, bank in banks.items()}
    group = {n: _array(v) for n, v in split_bank(banks).items()}
    return public, group


def load_shared(network: Network, public: Mapping[str, Any], group: Mapping[str, Any]) -> None:
    """Copies public arrays and experts into the network.

    Raises:
        ValueError: an array is missing, unknown or of another shape.
    """
    own_public, banks = tensors_of(network, "public"), tensors_of(network, "group")
    own_group = split_bank(banks)  # views: what is copied into them is in the banks
    _same_keys("public", own_public, public)
    _same_keys("group", own_group, group)
    received = {name: torch.as_tensor(array) for name, array in {**public, **group}.items()}
    for name, own in {**own_public, **own_group}.items():
        if own.shape != received[name].shape:
            raise ValueError(
                f"array {name!r} must have shape {tuple(own.shape)}, "
                f"got {tuple(received[name].shape)}"
            )
        own.copy_(received[name])


def _has_rows(name: str) -> bool:
    """Whether the module's parameter has a leading dimension of users."""
    return scope_of(name) == "private"


def _same_keys(scope: str, own: Mapping[str, Any], received: Mapping[str, Any]) -> None:
    missing, unknown = own.keys() - received.keys(), received.keys() - own.keys()
    if missing or unknown:
        raise ValueError(
            f"{scope} arrays do not fit this network: missing {sorted(missing)[:3]}, "
            f"unknown {sorted(unknown)[:3]}; server and node must run the same configuration"
        )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy().astype(np.float32, copy=True)
