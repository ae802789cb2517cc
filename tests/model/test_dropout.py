"""Keyed dropout: the right rate, independent places and users, no dependence on shape."""

import torch

from mrff_model.dropout import Dropout, dropout_factors


def test_the_share_dropped_and_the_scale() -> None:
    x = torch.ones(200, 1, 20, 24)
    dropped = Dropout(0.25, torch.arange(200)).at(3)(x)
    assert abs((dropped == 0).float().mean().item() - 0.25) < 0.005
    assert torch.equal(dropped.unique(), torch.tensor([0.0, 256.0 / 192.0]))
    assert abs(dropped.mean().item() - 1.0) < 0.01


def test_no_key_and_no_rate_leave_the_input_alone() -> None:
    x = torch.randn(2, 1, 3, 4)
    assert Dropout(0.5, None)(x) is x
    assert Dropout(0.0, torch.arange(2))(x) is x


def test_a_mask_does_not_depend_on_batch_or_padding() -> None:
    key = torch.tensor([5, -(2**63) + 9, 77])
    large = dropout_factors(key, torch.Size((3, 12, 17)), 128, site=1)
    small = dropout_factors(key[1:2], torch.Size((2, 7, 9)), 128, site=1)
    assert torch.equal(large[1:2, :2, :7, :9], small)


def test_users_places_positions_and_channels_are_uncorrelated() -> None:
    shape = torch.Size((1, 64, 64))
    kept = (dropout_factors(torch.arange(64), shape, 128, site=0) > 0).double() - 0.5
    other = (dropout_factors(torch.arange(64), shape, 128, site=1) > 0).double() - 0.5
    bound = 4 * 0.25 / (64 * 64 * 64) ** 0.5  # four standard errors of a mean of +-0.25
    for a, b in (
        (kept, other),
        (kept[1:], kept[:-1]),
        (kept[:, :, 1:], kept[:, :, :-1]),
        (kept[..., 1:], kept[..., :-1]),
    ):
        assert abs((a * b).mean().item()) < bound * 1.1
