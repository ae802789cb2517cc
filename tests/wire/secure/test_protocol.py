"""The stages of a secure sum: what it gives, whom it does without, and what breaks it not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare, hypergeom

from mrff.config import PrivacySettings
from mrff.sums import CohortSums
from mrff.wire.aggregation import Asked, RoundFailedError
from mrff.wire.aggregation.secure.encoding import AMOUNT, Vectors
from mrff.wire.aggregation.secure.graph import Neighbourhoods, Terms
from mrff.wire.aggregation.secure.primitives import SecureError, digest
from mrff.wire.aggregation.secure.server import SecureServer
from mrff.wire.aggregation.secure.session import Bundle, Party, Session
from mrff.wire.aggregation.secure.shares import Identity, Secrets, add_mask
from mrff.wire.aggregation.secure.sharing import SHARE_BYTES, secret_of
from tests.support.secure_sums import EXPECTED, circle, layout, place_of, sums_of, total_of


def names(places: range) -> list[str]:
    return [f"node-{place}" for place in places]


@pytest.mark.parametrize(
    ("nodes", "shared", "sent", "opened"),
    [(2, 2, 2, 2), (5, 5, 5, 5), (5, 4, 4, 4), (5, 5, 4, 4), (5, 5, 5, 3), (5, 5, 4, 3)],
)
def test_the_sum_over_those_who_sent_whoever_leaves_after_which_stage(
    nodes: int, shared: int, sent: int, opened: int
) -> None:
    everybody = circle(nodes, sharing=range(shared))
    everybody.send(names(range(sent)))
    total, wanted = everybody.open(names(range(opened))), total_of(range(sent))
    error = np.abs(total.updates["a"] - wanted.updates["a"]).max()
    assert error <= sent * layout().steps["a"] / 2 * (1 + 1e-9)
    assert total.numbers["users"] == wanted.numbers["users"]
    assert abs(total.numbers["loss"] - wanted.numbers["loss"]) <= sent * AMOUNT / 2


@pytest.mark.parametrize("stage", ["sent", "opened"])
def test_below_the_threshold_nothing_is_opened(stage: str) -> None:
    """Three of five are needed."""
    everybody = circle(5)
    everybody.send(names(range(2 if stage == "sent" else 5)))
    with pytest.raises(SecureError, match="3 are needed"):
        everybody.open(names(range(2)))
    with pytest.raises(SecureError, match="are too few, 3 are needed"):
        everybody.opening.opened()


def test_above_64_nodes_everybody_has_a_hundred_neighbours_and_the_sum_is_right() -> None:
    everybody = circle(120)
    party = everybody.party
    near = {name: party.neighbours[name] for name in party.bundles}
    assert {len(set(members)) for members in near.values()} == {101}
    assert all(name in members for name, members in near.items())
    left = names(range(110))
    everybody.send(left)
    total, wanted = everybody.open(left[:100]), total_of(range(110))
    assert total.numbers["users"] == wanted.numbers["users"]
    np.testing.assert_allclose(total.updates["a"], wanted.updates["a"], atol=2e-4)


def test_neighbours_are_mutual_and_not_known_before_the_keys() -> None:
    order, terms = [f"n{i}" for i in range(150)], Terms(150, 0.6, 0)
    near, other = (
        {name: found[name] for name in order}
        for found in (Neighbourhoods(order, terms, bytes([seed])) for seed in (1, 2))
    )
    assert all(a in near[b] for a in order for b in near[a])
    assert sum(near[name] != other[name] for name in order) > 140


def test_each_node_that_looks_up_its_own_neighbours_sees_the_graph_of_all() -> None:
    """Whatever order keys came in; a ring of 150 is left by 50 steps either way."""
    order = [f"n{i}" for i in range(150)]
    ring = sorted(order, key=lambda name: digest(b"seed" + name.encode()))
    for place, name in enumerate(ring):
        came = order[place:] + order[:place]
        own = Neighbourhoods(came, Terms(150, 0.6, 0), b"seed")[name]
        around = [(place + step) % 150 for step in range(-50, 51)]
        assert own == sorted(ring[p] for p in around)


def test_every_node_is_as_likely_a_neighbour() -> None:
    """n1 is one of 100 neighbours among 149 others: in 300 rings about 201 times (deviation 8)."""
    order, terms = [f"n{i}" for i in range(150)], Terms(150, 0.6, 0)
    rings = [Neighbourhoods(order, terms, seed.to_bytes(2, "big")) for seed in range(300)]
    assert 161 < sum("n1" in ring["n0"] for ring in rings) < 241


@pytest.mark.parametrize(
    ("nodes", "threshold", "colluders", "needed"),
    [
        (2, 0.6, 0, 2),
        (3, 0.6, 0, 2),
        (4, 0.6, 0, 3),
        (4, 0.6, 1, 3),
        (5, 0.6, 1, 4),
        (64, 0.6, 0, 39),
    ],
)
def test_how_many_it_takes_worked_by_hand(
    nodes: int, threshold: float, colluders: int, needed: int
) -> None:
    """Two lists of t signatures each need 2 t > n + c; c nodes and one honest one are no sum."""
    terms = Terms(nodes, threshold, colluders)
    assert terms.needed == needed
    assert 2 * needed > nodes + colluders
    assert needed >= colluders + 2


def test_in_large_federations_the_share_counts_for_all_nodes_as_well() -> None:
    """1,000 nodes: 61 of each neighbourhood of 101, 600 of all; with 50 colluding ones 550 hide."""
    terms = Terms(1000, 0.6, 50)
    assert (terms.survivors, terms.honest) == (600, 550)
    assert Terms(1000, 0.51, 50).survivors == 526  # more than half of the honest, and the others
    for nodes in (2, 5, 64):
        assert Terms(nodes, 0.6, 0).survivors == Terms(nodes, 0.6, 0).needed


def test_a_neighbourhood_that_is_whole_does_not_open_a_sum_of_too_few() -> None:
    """A server that leaves out 55 of 130 nodes who are no neighbours of its victim if possible."""
    everybody = circle(130, sharing=[0])
    victim, party = everybody.nodes["node-0"], everybody.party
    near = list(party.neighbours["node-0"])
    survivors = {"node-0", *near[:75]}
    assert (len(near), party.terms.needed, party.terms.survivors) == (101, 61, 78)
    with pytest.raises(SecureError, match=r"7\d nodes are left of all, 78 are needed: nothing"):
        victim.sign(survivors)
    assert victim.sign({"node-0", *near[:80]})


def test_too_few_nodes_for_the_colluding_ones_are_refused() -> None:
    with pytest.raises(SecureError, match=r"2 nodes cannot hide anybody .* 1 colluding"):
        _ = Terms(2, 0.6, 1).needed
    with pytest.raises(SecureError, match="1 nodes cannot hide anybody"):
        _ = Terms(1, 0.6, 0).needed
    with pytest.raises(SecureError, match="cannot hide anybody"):
        circle(3, terms={"colluders": 2})


def test_in_a_large_federation_colluding_nodes_rarely_meet() -> None:
    """Bell et al.: more than reckoned with in any neighbourhood has chance below 1e-9."""
    terms = Terms(1000, 0.6, 50)
    near = 2 * terms.needed - 101 - 1  # what the bound leaves room for
    assert 1000 * hypergeom.sf(near, 1000, 50, 101) < 1e-9
    assert terms.needed < 101


def test_uploads_are_uniform_and_say_nothing_of_what_they_hold() -> None:
    """Chi-square over rounds and nodes, of bytes of both vectors; then with the masks known."""
    found = []
    for round_number in range(60):
        session = Session("t", "train", round_number, 1)
        everybody = circle(4, session=session)
        for vectors in everybody.send(names(range(4))).values():
            found += [vectors.arrays.view(np.uint8), vectors.numbers.view(np.uint8)]
    counts = np.bincount(np.concatenate(found), minlength=256)
    assert chisquare(counts).pvalue > 1e-6
    plain = np.concatenate([layout().encoded(sums_of(n)).arrays.view(np.uint8) for n in range(240)])
    assert chisquare(np.bincount(plain, minlength=256)).pvalue < 1e-12, "the test can fail"


def test_who_holds_what_changes_no_bit_of_what_the_server_opens() -> None:
    """Whatever it asked for: it knows no more than one who is given the exact sum alone."""

    def opened(places: list[int]) -> CohortSums:
        everybody = circle(4)
        for name, place in zip(names(range(4)), places, strict=True):
            node = everybody.nodes[name]
            node.receive(everybody.opening.shares_for(name))
            everybody.opening.add(name, node.mask(layout().encoded(sums_of(place))))
        return everybody.open(names(range(4)))

    first, second = opened([0, 1, 2, 3]), opened([3, 0, 2, 1])
    np.testing.assert_array_equal(first.updates["a"], second.updates["a"])
    assert {n: v.tolist() for n, v in first.numbers.items()} == {
        n: v.tolist() for n, v in second.numbers.items()
    }


def test_one_node_twice_with_the_same_values_sends_nothing_alike() -> None:
    uploads = [circle(3).send(["node-0"])["node-0"] for _ in range(2)]
    assert (uploads[0].arrays != uploads[1].arrays).mean() > 0.9


def test_all_colluding_nodes_and_the_server_do_not_open_an_honest_node() -> None:
    """c = 1 of 4: the server, with what node 3 holds, has one share of three."""
    everybody = circle(4, terms={"colluders": 1})
    sent = everybody.send(names(range(4)))["node-0"]
    colluder = everybody.nodes["node-3"]
    shares = {colluder.party.places["node-3"]: colluder.held["node-0"][SHARE_BYTES:]}  # type: ignore[union-attr]
    with pytest.raises(SecureError, match="1 shares are too few"):
        secret_of(shares, everybody.party.terms.needed)
    # Even with the mask that they share removed, what is left is no value of node 0.
    known = Vectors(sent.numbers.copy(), sent.arrays.copy())
    plain = layout().encoded(sums_of(0))
    assert (known.arrays != plain.arrays).mean() > 0.9


def break_share(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def test_a_share_that_was_changed_on_its_way_is_found() -> None:
    everybody = circle(3)
    shares = everybody.opening.shares_for("node-0")
    shares["node-1"] = break_share(shares["node-1"])
    with pytest.raises(SecureError, match="changed or belongs to another round"):
        everybody.nodes["node-0"].receive(shares)


def test_a_share_of_another_round_is_refused() -> None:
    first, second = circle(3), circle(3, session=Session("t", "train", 2, 7))
    with pytest.raises(SecureError, match="another round"):
        second.nodes["node-0"].receive(first.opening.shares_for("node-0"))


def test_a_share_for_somebody_else_is_refused() -> None:
    """The server hands node 0 what node 1 has for node 2."""
    everybody = circle(3)
    shares = everybody.opening.shares_for("node-0")
    shares["node-1"] = everybody.opening.shares_for("node-2")["node-1"]
    with pytest.raises(SecureError, match="changed or belongs"):
        everybody.nodes["node-0"].receive(shares)


def swapped(bundle: Bundle) -> Bundle:
    """The keys of the server in a node's place, with its old signature."""
    own = Secrets(Identity.fresh(bundle.name), Session("t", "train", 1, 7)).bundle()
    return replace(bundle, mask_key=own.mask_key, seal_key=own.seal_key)


def resigned(bundle: Bundle) -> Bundle:
    """The same, signed by a key of the server's."""
    return Secrets(Identity.fresh(bundle.name), Session("t", "train", 1, 7)).bundle()


def of_another_round(bundle: Bundle) -> Bundle:
    return Secrets(Identity.fresh(bundle.name), Session("t", "train", 9, 7)).bundle()


@pytest.mark.parametrize("attack", [swapped, resigned, of_another_round])
def test_a_server_that_swaps_a_key_gets_no_shares(attack: Callable[[Bundle], Bundle]) -> None:
    """With a roster; a foreign name is refused as well."""
    session = Session("t", "train", 1, 7)
    fresh = [Identity.fresh(f"node-{place}") for place in range(3)]
    own = {who.name: Secrets(who, session).bundle().verify_key for who in fresh}
    nodes = [Secrets(replace(who, roster=own), session) for who in fresh]
    bundles = [node.bundle() for node in nodes]
    honest = Party.of(session, bundles, 0.6, 0)
    assert nodes[0].share(honest)
    for place in (0, 1):
        shown = [attack(b) if n == place else b for n, b in enumerate(bundles)]
        with pytest.raises(SecureError, match=f"node 'node-{place}' are not"):
            nodes[0].share(Party.of(session, shown, 0.6, 0))
    stranger = Secrets(Identity.fresh("node-9"), session).bundle()
    with pytest.raises(SecureError, match="'node-9' is not in this node's secure-roster"):
        nodes[0].share(Party.of(session, [*bundles, stranger], 0.6, 0))


def test_nodes_that_were_shown_different_keys_cannot_read_each_other() -> None:
    session = Session("t", "train", 1, 7)
    nodes = [Secrets(Identity.fresh(f"node-{place}"), session) for place in range(4)]
    bundles = [node.bundle() for node in nodes]
    first = nodes[0].share(Party.of(session, bundles, 0.6, 0))
    nodes[1].share(Party.of(session, bundles[:3], 0.6, 0))
    with pytest.raises(SecureError, match="changed or belongs"):
        nodes[1].receive({"node-0": first["node-1"]})


def test_one_name_twice_is_refused() -> None:
    session = Session("t", "train", 1, 7)
    bundles = [Secrets(Identity.fresh("node-0"), session).bundle() for _ in range(2)]
    with pytest.raises(SecureError, match="two nodes have one name"):
        Party.of(session, bundles, 0.6, 0)


def test_two_survivor_lists_never_obtain_both_secrets_of_a_node() -> None:
    """The server shows node 0's vector as missing to some: too few honest ones sign either list."""
    everybody = circle(5, terms={"colluders": 1})  # 4 of 5 are needed
    everybody.send(names(range(5)))
    full = set(names(range(5)))
    without = full - {"node-0"}
    signed_full = {n: everybody.nodes[n].sign(full) for n in ("node-0", "node-1", "node-4")}
    signed_less = {n: everybody.nodes[n].sign(without) for n in ("node-2", "node-3", "node-4")}
    for survivors, signatures in ((full, signed_full), (without, signed_less)):
        with pytest.raises(SecureError, match="3 nodes have signed this list"):
            everybody.nodes["node-4"].open(survivors, signatures)


def test_forged_signatures_do_not_count() -> None:
    everybody = circle(3)
    everybody.send(names(range(3)))
    survivors = set(names(range(3)))
    own = everybody.nodes["node-0"].sign(survivors)
    forged = dict.fromkeys(survivors, own)
    with pytest.raises(SecureError, match="1 nodes have signed this list"):
        everybody.nodes["node-0"].open(survivors, forged)


def test_a_list_without_this_node_or_with_a_stranger_is_not_signed() -> None:
    everybody = circle(3)
    everybody.send(names(range(3)))
    for survivors in ({"node-1", "node-2"}, {"node-0", "node-1", "node-9"}):
        with pytest.raises(SecureError, match="not of this sum, or lacks this node"):
            everybody.nodes["node-0"].sign(survivors)


def test_never_both_secrets_of_one_node_are_given() -> None:
    everybody = circle(5)
    everybody.send(names(range(4)))
    survivors = everybody.opening.survivors
    signatures = {n: everybody.nodes[n].sign(survivors) for n in survivors}
    shares = everybody.nodes["node-0"].open(survivors, signatures)
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    own = everybody.nodes["node-0"].held
    for name, share in shares.items():
        first, second = own[name][:SHARE_BYTES], own[name][SHARE_BYTES:]
        assert share == (second if name in survivors else first)


def test_wrong_lengths_and_unmasked_data_are_refused_and_the_sum_stands() -> None:
    everybody = circle(3)
    everybody.send(names(range(2)))
    good = layout().zeros()
    for bad in (
        Vectors(good.numbers, good.arrays[:-1]),
        Vectors(good.numbers.astype(np.int64), good.arrays),  # type: ignore[arg-type]
        Vectors(good.numbers, good.arrays.astype(np.uint64)),
    ):
        with pytest.raises(SecureError, match="a masked vector has"):
            everybody.opening.add("node-2", bad)
    with pytest.raises(SecureError, match="no vector of node 'node-1' is wanted"):
        everybody.opening.add("node-1", good)
    total = everybody.open(names(range(2)))
    assert total.numbers["users"] == total_of(range(2)).numbers["users"]


def test_a_vector_without_its_masks_is_found_by_the_count_of_nodes() -> None:
    """Its other nodes' masks do not cancel: the sum counts another number of nodes."""
    everybody = circle(3)
    everybody.send(names(range(2)))
    everybody.opening.add("node-2", layout().encoded(sums_of(2)))
    with pytest.raises(Exception, match="secure sum"):
        everybody.open(names(range(2)))


def test_shares_that_do_not_give_a_nodes_key_fail_the_sum() -> None:
    everybody = circle(4)
    everybody.send(names(range(3)))
    survivors = everybody.opening.survivors
    signatures = {n: everybody.nodes[n].sign(survivors) for n in survivors}
    for name in survivors:
        shares = everybody.nodes[name].open(survivors, signatures)
        shares["node-3"] = bytes(SHARE_BYTES - 1) + bytes([place_of(name)])
        everybody.opening.take_opened(name, shares)
    with pytest.raises(SecureError, match=r"do not give its key|do not belong together"):
        everybody.opening.opened()


def test_a_mask_comes_off_again() -> None:
    vectors = layout().encoded(sums_of(1))
    before = vectors.arrays.copy()
    add_mask(vectors, bytes(32))
    assert (vectors.arrays != before).any()
    add_mask(vectors, bytes(32), subtract=True)
    np.testing.assert_array_equal(vectors.arrays, before)


def test_a_sum_without_any_node_fails_in_one_line() -> None:
    asked = Asked("training round 1", 1, EXPECTED, lambda sums: None)
    with pytest.raises(RoundFailedError, match="training round 1: no node is there to be asked"):
        SecureServer(PrivacySettings()).exchange(lambda messages: messages, [], asked)
