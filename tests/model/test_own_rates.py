"""The user's own rates: hand-worked numbers, a written-out reference, causality."""

import math

import pytest
import torch

from mrff_model.own_rates import number_of_rates, own_rates


def logit(rate: float) -> float:
    return math.log(rate / (1 - rate))


def each(feedback: torch.Tensor) -> torch.Tensor:
    """Every target knows all that came before it."""
    return torch.arange(feedback.shape[-1])


def test_a_window_by_hand() -> None:
    """Items of kinds 1, 1, 2 (liked, not, liked) come before targets of kinds 1, 1, 2, 1."""
    feedback = torch.tensor([[[0, 2, 1, 2]]])
    history = {"kind": torch.tensor([[[0, 1, 1, 2]]])}
    targets = {"kind": torch.tensor([[[1, 1, 2, 1]]])}
    found = own_rates(feedback, history, targets, until=each(feedback))
    assert found.shape == (1, 1, 4, number_of_rates(["kind"]))
    expected = [
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        # 1 of 1 liked: r = 2/3; of kind 1 as well: (1 + 2 r) / 3 = 7/9
        [logit(2 / 3), math.log(2) / 4, 0.0, 0.5, logit(7 / 9) - logit(2 / 3), math.log(2) / 4],
        # 1 of 2: r = 1/2; kind 2 was not seen
        [0.0, math.log(3) / 4, 0.0, -0.5, 0.0, 0.0],
        # 2 of 3: r = 3/5; kind 1: (1 + 6/5) / 4 = 11/20
        [logit(0.6), math.log(4) / 4, 0.0, 0.5, logit(0.55) - logit(0.6), math.log(3) / 4],
    ]
    torch.testing.assert_close(found[0, 0], torch.tensor(expected))


def test_the_latest_ten_are_told_from_the_rest() -> None:
    """Ten liked ones after ten that were not: 11/12 lately, 11/22 over all."""
    feedback = torch.tensor([[[0, *[1] * 10, *[2] * 10]]])
    lately = own_rates(feedback, {}, {}, until=None)[0, 0, 0, 2]
    assert lately.item() == pytest.approx(11 / 12 - 11 / 22)


@pytest.mark.parametrize("size", [7, 70])
def test_several_values_count_by_the_share_that_is_common(size: int) -> None:
    """Against loops over targets, history items and values."""
    generator = torch.Generator().manual_seed(1)
    draws = torch.rand(2, 2, 12, size - 1, generator=generator).argsort(-1)[..., :3] + 1
    codes = draws * (torch.rand(2, 2, 12, 3, generator=generator) < 0.7)  # 0: fewer values
    feedback = torch.randint(0, 3, (2, 2, 12), generator=generator)
    history = codes.roll(1, dims=2)
    found = own_rates(feedback, {"g": history}, {"g": codes}, until=each(feedback))
    for b, w, t in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(12)):
        values = set(codes[b, w, t].tolist()) - {0}
        seen = liked = everything = positive = 0.0
        for h in range(int(t) + 1):
            share = len(values & set(history[b, w, h].tolist())) / max(1, len(values))
            seen += share * (feedback[b, w, h] > 0).item()
            liked += share * (feedback[b, w, h] == 2).item()
            everything += (feedback[b, w, h] > 0).item()
            positive += (feedback[b, w, h] == 2).item()
        rate = (positive + 1) / (everything + 2)
        expected = [logit((liked + 2 * rate) / (seen + 2)) - logit(rate), math.log1p(seen) / 4]
        assert found[b, w, t, 4:].tolist() == pytest.approx(expected, abs=1e-5)


def test_one_value_counts_as_a_list_of_one_and_as_loops_do() -> None:
    generator = torch.Generator().manual_seed(4)
    history = torch.randint(0, 5, (2, 2, 17), generator=generator)
    codes = torch.randint(0, 5, (2, 2, 17), generator=generator)
    feedback = torch.randint(0, 3, (2, 2, 17), generator=generator)
    one = own_rates(feedback, {"g": history}, {"g": codes}, until=each(feedback))
    listed = own_rates(
        feedback,
        {"g": history[..., None]},
        {"g": codes[..., None]},
        until=each(feedback),
    )
    assert torch.equal(one, listed)
    for b, w, t in torch.cartesian_prod(torch.arange(2), torch.arange(2), torch.arange(17)):
        alike = (history[b, w, : t + 1] == codes[b, w, t]) & (codes[b, w, t] > 0)
        seen = (alike & (feedback[b, w, : t + 1] > 0)).sum().item()
        assert one[b, w, t, 5].item() == pytest.approx(math.log1p(seen) / 4)


@pytest.mark.parametrize("several", [False, True])
def test_the_newest_position_is_the_last_of_all_for_as_many_targets_as_one_likes(
    several: bool,
) -> None:
    generator = torch.Generator().manual_seed(2)
    shape = (3, 1, 9, 2) if several else (3, 1, 9)
    history = {"g": torch.randint(0, 6, shape, generator=generator)}
    feedback = torch.randint(0, 3, (3, 1, 9), generator=generator)
    targets = {"g": torch.randint(0, 6, (3, 1, 20, *shape[3:]), generator=generator)}
    newest = own_rates(feedback, history, targets, until=None, sizes={"g": 6})
    for number in range(20):
        alone = {"g": targets["g"][:, :, number : number + 1].expand(history["g"].shape)}
        everywhere = own_rates(feedback, history, alone, until=each(feedback))
        torch.testing.assert_close(newest[:, :, number], everywhere[:, :, -1])


def test_later_feedback_is_not_counted_and_padding_is_like_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    codes = {"g": torch.randint(1, 4, (1, 1, 8), generator=generator)}
    feedback = torch.randint(1, 3, (1, 1, 8), generator=generator)
    before = own_rates(feedback, codes, codes, until=each(feedback))
    changed = feedback.clone()
    changed[..., 5:] = 3 - changed[..., 5:]
    after = own_rates(changed, codes, codes, until=each(feedback))
    assert torch.equal(after[:, :, :5], before[:, :, :5])
    assert not torch.equal(after[:, :, 5:], before[:, :, 5:])

    padding = {"g": torch.zeros_like(codes["g"])}
    alone = own_rates(feedback, padding, padding, until=each(feedback))
    assert torch.equal(alone[..., 4:], torch.zeros(1, 1, 8, 2))
