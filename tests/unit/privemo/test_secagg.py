"""The secure sum, read as a threat model: who drops out when, what a server may try, what a member may."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from privemo import flower
from privemo.errors import SecureSumError, UpdateRejected
from privemo.secagg import Advert, Collector, Member, Reveal, Session, needed
from privemo.secagg.shares import KEY, SEED, deal, is_dealt
from privemo.secagg.statements import confirmation

LENGTH = 50
ORDER = "d" * 64
ED25519 = (
    Ed25519PrivateKey.generate()
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)
STEPS = ("advert", "share", "mask", "confirm", "reveal")


@dataclass
class Stores:
    """Stores with keys and vectors, and one session of a sum among them."""

    session: Session
    signing: dict[str, Ed25519PrivateKey]
    vectors: dict[str, NDArray[np.int64]]
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def roster(self) -> dict[str, bytes]:
        return {n: key.public_key().public_bytes_raw() for n, key in self.signing.items()}


def stores(count: int = 5, may_drop: float = 0.4, seed: int = 0) -> Stores:
    rng = np.random.default_rng(seed)
    names = tuple(f"store-{n:02d}" for n in range(count))
    session = Session("run", 3, "0" * 32, ORDER, names, *needed(count, may_drop))
    return Stores(
        session,
        {n: Ed25519PrivateKey.generate() for n in names},
        {n: rng.integers(-(2**20), 2**20, LENGTH) for n in names},
    )


def summed_up(
    these: Stores,
    drops: Mapping[str, str] = {},
    *,
    until: str = "end",
    tell: Callable[[Member], Member] = lambda member: Member.from_json(member.to_json()),
) -> Collector:
    """Run the protocol. `drops` says before which step a store falls silent."""
    session, roster = these.session, these.roster
    server = Collector(session, roster, LENGTH)

    def there(step: str) -> list[str]:
        at = STEPS.index(step)
        return [n for n in session.members if n not in drops or STEPS.index(drops[n]) > at]

    members = {n: Member(session, n) for n in session.members}
    these.members = members
    for n in there("advert"):
        server.take_advert(n, members[n].advert(these.signing[n]))
    assert server.close_adverts() == {}
    server.require(list(server.adverts), "sent keys")
    for n in there("share"):
        members[n] = tell(members[n])
        server.take_envelopes(n, *members[n].share(server.adverts, roster, these.signing[n]))
    server.require(server.partners, "shared secrets")
    for n in there("mask"):
        members[n] = tell(members[n])
        members[n].open(server.envelopes_for(n), roster)
        server.take_masked(n, members[n].mask(these.vectors[n]))
    server.require(server.summed, "sent a vector")
    if until == "confirm":
        return server
    for n in there("confirm"):
        members[n] = tell(members[n])
        server.take_signature(n, members[n].confirm(server.summed, these.signing[n]))
    server.require(server.signatures, "confirmed")
    if until == "reveal":
        return server
    for n in there("reveal"):
        members[n] = tell(members[n])
        server.take_reveal(n, members[n].reveal(server.signatures, roster))
    return server


def expected(these: Stores, names: list[str]) -> NDArray[np.uint32]:
    total = np.sum([these.vectors[n] for n in names], axis=0) & 0xFFFFFFFF
    return np.asarray(total, np.uint32)


# -- the sum -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(3, 7),
    fates=st.lists(st.sampled_from([*STEPS, "never"]), min_size=7, max_size=7),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_sum_of_those_who_stayed_or_nothing(
    count: int, fates: list[str], seed: int
) -> None:
    """Whoever drops out at whatever step: the exact sum of the vectors that came, or an error."""
    these = stores(count, 0.4, seed)
    fate = dict(zip(these.session.members, fates, strict=False))
    drops = {n: step for n, step in fate.items() if step != "never"}
    left = {
        step: [n for n in fate if n not in drops or STEPS.index(drops[n]) > k]
        for k, step in enumerate(STEPS)
    }
    enough, threshold = these.session.enough, these.session.threshold
    fine = len(left["confirm"]) >= enough and len(left["reveal"]) >= threshold
    if not fine:
        with pytest.raises(SecureSumError):
            summed_up(these, drops).total()
        return
    server = summed_up(these, drops)
    assert server.summed == left["mask"]
    assert server.total().tolist() == expected(these, left["mask"]).tolist()


def test_sums_below_zero_come_back_through_the_modulus() -> None:
    these = stores()
    for n in these.vectors:
        these.vectors[n] = np.full(LENGTH, -7)
    assert summed_up(these).total().view(np.int32).tolist() == [-35] * LENGTH


def test_what_a_member_sends_looks_like_chance() -> None:
    """Also for a vector of zeros; and two tries of the same vector have nothing in common."""
    these = stores()
    for n in these.vectors:
        these.vectors[n] = np.zeros(LENGTH, np.int64)
    seen = []
    for attempt in ("1" * 32, "2" * 32):
        these.session = replace(these.session, attempt=attempt)
        members = {n: Member(these.session, n) for n in these.session.members}
        adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
        shared = {
            n: m.share(adverts, these.roster, these.signing[n])[0] for n, m in members.items()
        }
        first = these.session.members[0]
        letters = {n: shared[n][first] for n in shared if n != first}
        members[first].open(letters, these.roster)
        seen.append(members[first].mask(these.vectors[first]))
    for masked in seen:
        assert len(np.unique(masked)) > LENGTH - 3
        assert 0.2 < (masked > 2**31).mean() < 0.8
    assert not (seen[0] == seen[1]).any()


def test_masks_use_all_of_a_seed() -> None:
    """Flower's own generator folds a seed to 32 bits by exclusive or: two seeds, one mask."""
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    from privemo.dp.stream import KeyStream

    one, other = bytes(32), b"\x01\0\0\0" * 2 + bytes(24)
    theirs = [pseudo_rand_gen(seed, 2**32, [(20,)])[0].tolist() for seed in (one, other)]
    assert theirs[0] == theirs[1], "otherwise this module need not make its own masks"
    assert KeyStream(one).uint32(20).tolist() != KeyStream(other).uint32(20).tolist()


# -- a server that lies --------------------------------------------------------------------------------


def test_a_server_cannot_put_its_own_keys_in_place_of_a_store() -> None:
    these = stores()
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    first, second, *_ = these.session.members
    forged = Member(these.session, second).advert(Ed25519PrivateKey.generate())
    with pytest.raises(SecureSumError, match=f"keys of {second} are not signed"):
        members[first].share({**adverts, second: forged}, these.roster, these.signing[first])


def test_keys_of_another_session_are_refused() -> None:
    """A server that kept somebody's keys, and the secret of one of them, cannot use them again."""
    these = stores()
    other = replace(these.session, round=4)
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    first, second, *_ = these.session.members
    old = Member(other, second).advert(these.signing[second])
    with pytest.raises(SecureSumError, match="not signed"):
        members[first].share({**adverts, second: old}, these.roster, these.signing[first])


def test_a_strangers_store_is_no_member() -> None:
    these = stores()
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    key = Ed25519PrivateKey.generate()
    wide = replace(these.session, members=(*these.session.members, "zz"), threshold=4, enough=4)
    stranger = Member(wide, "zz").advert(key)
    first = these.session.members[0]
    roster = {**these.roster, "zz": key.public_key().public_bytes_raw()}
    with pytest.raises(SecureSumError, match="zz"):
        members[first].share({**adverts, "zz": stranger}, roster, these.signing[first])
    with pytest.raises(SecureSumError, match="no member"):
        Member(these.session, "zz").advert(key)


def test_too_few_are_never_masked_nor_unmasked() -> None:
    these = stores(5, 0.2)  # four of five
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    first, *rest = these.session.members
    with pytest.raises(SecureSumError, match="3 members are there of 4"):
        members[first].share(
            {n: adverts[n] for n in [first, *rest[:2]]}, these.roster, these.signing[first]
        )
    server = summed_up(these, until="confirm")
    alone = these.members[first]
    with pytest.raises(SecureSumError, match="1 members are left of 4"):
        alone.confirm([first], these.signing[first])
    del server


def revealed(
    these: Stores, stories: Mapping[str, list[str]], liars: set[str]
) -> set[frozenset[str]]:
    """The sets for which any honest member reveals anything, when each is told a story of who is in the sum.

    Members in `liars` sign every story.
    """
    signed: dict[frozenset[str], dict[str, bytes]] = {}
    for n, story in stories.items():
        try:
            signature = these.members[n].confirm(story, these.signing[n])
        except SecureSumError:
            continue
        signed.setdefault(frozenset(story), {})[n] = signature
    for story, signatures in signed.items():
        for n in liars & story:
            statement = confirmation(these.session, these.members[n].adverts, story)
            signatures[n] = these.signing[n].sign(statement)
    told = set()
    for n in set(stories) - liars:
        story = frozenset(stories[n])
        try:
            these.members[n].reveal(signed.get(story, {}), these.roster)
        except SecureSumError:
            continue
        told.add(story)
    return told


def test_two_stories_of_who_is_in_the_sum_unmask_nobody() -> None:
    """The attack that signatures are for: of one store seeds from some members, the key from the others."""
    these = stores(5, 0.4)  # three of five
    summed_up(these, until="confirm")
    names, victim = list(these.session.members), these.session.members[-1]
    everyone, without = names, names[:-1]
    stories = {n: everyone if k < 2 or n == victim else without for k, n in enumerate(names)}
    assert revealed(these, stories, set()) == {frozenset(everyone)}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), count=st.integers(3, 7), may_drop=st.floats(0, 0.49))
def test_at_most_one_story_is_ever_revealed(
    data: st.DataObject, count: int, may_drop: float
) -> None:
    """With fewer liars than 2 enough - n: what docs/explanation/secure-sums.md promises."""
    these = stores(count, may_drop)
    summed_up(these, until="confirm")
    names, enough = list(these.session.members), these.session.enough
    most = max(0, 2 * min(enough, these.session.threshold) - count - 1)
    liars = set(data.draw(st.lists(st.sampled_from(names), max_size=most, unique=True)))
    two = [
        sorted(data.draw(st.lists(st.sampled_from(names), min_size=enough, unique=True)))
        for _ in range(2)
    ]
    stories = {n: two[data.draw(st.integers(0, 1))] for n in names}
    assert len(revealed(these, stories, liars)) <= 1


def test_one_liar_too_many_is_what_the_bound_is_for() -> None:
    """So the bound of the test above is no looser than it has to be."""
    these = stores(5, 0.4)  # 2 * 3 - 5 = 1 liar is one too many
    summed_up(these, until="confirm")
    names = list(these.session.members)
    stories = {n: names if k < 2 else names[2:] for k, n in enumerate(names)}
    stories[names[4]] = names
    assert len(revealed(these, stories, {names[4]})) == 2
    assert 2 * these.session.enough - 5 == 1


def test_signatures_of_another_go_at_the_same_session_do_not_count() -> None:
    """Other keys, other statement: a member's set cannot be collected in several goes."""
    these = stores()
    server = summed_up(these, until="reveal")
    again = stores()
    again.session, again.signing, again.vectors = these.session, these.signing, these.vectors
    summed_up(again, until="reveal")
    first = these.session.members[0]
    with pytest.raises(SecureSumError, match="0 members are left"):
        again.members[first].reveal(server.signatures, these.roster)


def test_after_the_end_only_what_was_told_is_kept() -> None:
    these = stores(5, 0.4)
    server = summed_up(these, {"store-04": "mask"}, until="reveal")
    member = these.members["store-00"]
    reveal = member.reveal(server.signatures, these.roster)
    assert (member.seed, member.mask_private, member.share_private) == (b"", b"", b"")
    assert (member.seeds, member.keys) == (dict(reveal.seeds), dict(reveal.keys))
    assert set(reveal.seeds) == set(server.summed)
    assert set(reveal.keys) == {"store-04"}


def test_a_member_signs_one_set_and_answers_the_same_again() -> None:
    these = stores()
    server = summed_up(these, until="reveal")
    first = these.session.members[0]
    with pytest.raises(SecureSumError, match="'confirmed'"):
        these.members[first].confirm(server.summed[:-1], these.signing[first])
    reveal = these.members[first].reveal(server.signatures, these.roster)
    # An answer that was lost on its way is given again, and is the same.
    assert these.members[first].reveal(server.signatures, these.roster) == reveal
    again = these.members[first].confirm(server.summed, these.signing[first])
    assert again == server.signatures[first]
    with pytest.raises(SecureSumError, match="'revealed'"):
        these.members[first].confirm(server.summed[:-1], these.signing[first])


def test_signatures_that_do_not_hold_unmask_nothing() -> None:
    these = stores()
    server = summed_up(these, until="reveal")
    first, second, *_ = these.session.members
    forged = dict.fromkeys(server.signatures, server.signatures[second])
    with pytest.raises(SecureSumError, match="it takes"):
        these.members[first].reveal(forged, these.roster)


# -- a member that lies --------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b"", b"no key", ED25519])
def test_keys_that_are_none_are_refused_by_all(bad: bytes) -> None:
    these = stores()
    first, second, *_ = these.session.members
    good = Member(these.session, second).advert(these.signing[second])
    forged = replace(good, share_key=bad)
    signature = these.signing[second].sign(forged.statement(these.session, second))
    forged = replace(forged, signature=signature)
    with pytest.raises(UpdateRejected, match="no keys"):
        Collector(these.session, these.roster, LENGTH).take_advert(second, forged)
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    with pytest.raises(SecureSumError, match=f"keys of {second} are no keys"):
        members[first].share({**adverts, second: forged}, these.roster, these.signing[first])


def test_two_keys_that_are_one_are_refused_by_all() -> None:
    """What members refuse the server refuses first, or one store would stop them all."""
    these = stores()
    first, second, *_ = these.session.members
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    forged = signed(these, second, replace(adverts[second], share_key=adverts[second].mask_key))
    server = Collector(these.session, these.roster, LENGTH)
    with pytest.raises(UpdateRejected, match="keys are one and the same"):
        server.take_advert(second, forged)
    with pytest.raises(UpdateRejected, match="not signed"):
        server.take_advert(first, forged)
    # Whoever signed it is named, and not whoever somebody claims to be.
    assert server.close_adverts() == {second: "its keys are one and the same"}
    with pytest.raises(SecureSumError, match=f"keys of {second} are one and the same"):
        members[first].share({**adverts, second: forged}, these.roster, these.signing[first])


def test_a_key_in_another_spelling_is_none() -> None:
    """Else a copy of somebody's key would pass for another key."""
    these = stores()
    name = these.session.members[0]
    good = Member(these.session, name).advert(these.signing[name])
    forged = signed(these, name, replace(good, mask_key=good.mask_key + b"\n"))
    assert flower.bytes_to_public_key(forged.mask_key) == flower.bytes_to_public_key(good.mask_key)
    with pytest.raises(UpdateRejected, match="no keys"):
        Collector(these.session, these.roster, LENGTH).take_advert(name, forged)


@pytest.mark.parametrize(("copied", "onto"), [("mask_key", "mask_key"), ("mask_key", "share_key")])
def test_members_who_have_a_key_in_common_are_left_out_and_the_others_go_on(
    copied: str, onto: str
) -> None:
    """Both, in whatever order they came: an honest store's key is seen by nobody until all keys are in."""
    these = stores(5, 0.4)
    one, other = "store-01", "store-03"
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    adverts[one] = signed(
        these, one, replace(adverts[one], **{onto: getattr(adverts[other], copied)})
    )
    with pytest.raises(SecureSumError, match="are the same: store-01, store-03"):
        members["store-00"].share(adverts, these.roster, these.signing["store-00"])
    members["store-00"] = Member(these.session, "store-00")
    adverts["store-00"] = members["store-00"].advert(these.signing["store-00"])
    server = Collector(these.session, these.roster, LENGTH)
    for n, advert in adverts.items():
        server.take_advert(n, advert)
    assert server.close_adverts() == {
        one: f"it has a key of {other}",
        other: f"it has a key of {one}",
    }
    left = ["store-00", "store-02", "store-04"]
    for n in left:
        sent = members[n].share(server.adverts, these.roster, these.signing[n])
        server.take_envelopes(n, *sent)
    for n in left:
        members[n].open(server.envelopes_for(n), these.roster)
        server.take_masked(n, members[n].mask(these.vectors[n]))
    for n in left:
        server.take_signature(n, members[n].confirm(server.summed, these.signing[n]))
    for n in left:
        server.take_reveal(n, members[n].reveal(server.signatures, these.roster))
    assert server.total().tolist() == expected(these, left).tolist()


def signed(these: Stores, name: str, advert: Advert) -> Advert:
    """Whatever a store says, signed by it."""
    return replace(
        advert, signature=these.signing[name].sign(advert.statement(these.session, name))
    )


def test_the_server_takes_nothing_from_anyone_but_its_store() -> None:
    these = stores()
    first, second, *_ = these.session.members
    server = Collector(these.session, these.roster, LENGTH)
    advert = Member(these.session, first).advert(these.signing[first])
    with pytest.raises(UpdateRejected, match="not signed"):
        server.take_advert(second, advert)
    server.take_advert(first, advert)
    with pytest.raises(UpdateRejected, match="before"):
        server.take_advert(first, advert)
    with pytest.raises(UpdateRejected, match="shared no secrets"):
        server.take_masked(first, np.zeros(LENGTH, np.uint32))
    with pytest.raises(UpdateRejected, match="others than the members"):
        server.take_envelopes(first, {"stranger": b""}, bytes(32))


@pytest.mark.parametrize(
    "masked", [np.zeros(LENGTH - 1, np.uint32), np.zeros(LENGTH, np.int64), np.zeros((1, LENGTH))]
)
def test_a_vector_of_another_shape_is_refused(masked: NDArray[np.generic]) -> None:
    these = stores()
    server = summed_up(these, {"store-00": "mask"}, until="confirm")
    with pytest.raises(UpdateRejected, match="numbers of 32 bits"):
        server.take_masked("store-00", masked)  # type: ignore[arg-type]


def test_one_vector_counts_once() -> None:
    these = stores()
    server = summed_up(these, until="confirm")
    with pytest.raises(UpdateRejected, match="second time"):
        server.take_masked("store-00", np.zeros(LENGTH, np.uint32))


LIES: dict[str, Callable[[bytes], bytes]] = {
    "one bit": lambda share: share[:10] + bytes([share[10] ^ 1]) + share[11:],
    "another place": lambda share: b"\x02" + share[1:],
    "no signature": lambda share: share[:-64],
    "one byte": lambda share: b"x",
    "nothing": lambda share: b"",
}


def told_by(
    these: Stores, server: Collector, liars: list[str], lie: Callable[[bytes], bytes]
) -> None:
    """Step 5, in which some members lie about every share."""
    for n in server.summed:
        reveal = these.members[n].reveal(server.signatures, these.roster)
        if n in liars:
            seeds, keys = ({k: lie(v) for k, v in p.items()} for p in (reveal.seeds, reveal.keys))
            reveal = Reveal(seeds, keys)
        server.take_reveal(n, reveal)


@pytest.mark.parametrize("lie", LIES)
def test_false_shares_are_left_aside_and_whoever_gave_them_is_named(lie: str) -> None:
    these = stores(5, 0.4)
    server = summed_up(these, {"store-04": "mask"}, until="reveal")
    told_by(these, server, ["store-00"], LIES[lie])
    assert server.total().tolist() == expected(these, server.summed).tolist()
    assert list(server.liars) == ["store-00"]


def test_one_false_share_of_a_key_is_enough_to_be_named() -> None:
    these = stores(5, 0.4)
    server = summed_up(these, {"store-04": "mask"}, until="reveal")
    for n in server.summed:
        reveal = these.members[n].reveal(server.signatures, these.roster)
        if n == "store-02":
            reveal = replace(reveal, keys={"store-04": LIES["one bit"](reveal.keys["store-04"])})
        server.take_reveal(n, reveal)
    assert server.total().tolist() == expected(these, server.summed).tolist()
    assert server.liars == {"store-02": ["store-04"]}


def test_too_few_true_shares_are_the_end_and_it_is_the_liars_who_are_named() -> None:
    these = stores(5, 0.4)  # three shares
    server = summed_up(these, until="reveal")
    told_by(these, server, ["store-00", "store-02", "store-03"], lambda share: share[::-1])
    with pytest.raises(SecureSumError, match=r"2 stores gave true .* takes 3") as found:
        server.total()
    assert "store-00, store-02, store-03 gave false ones" in str(found.value)


ENCRYPTED_KEY = ec.generate_private_key(ec.SECP384R1()).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.BestAvailableEncryption(b"x"),
)


@pytest.mark.parametrize(
    ("dealer", "what", "secret"),
    [
        ("store-01", SEED, bytes(32)),
        ("store-04", KEY, b"no key"),
        ("store-04", KEY, ENCRYPTED_KEY),  # at which parsing fails in another way
    ],
)
def test_whoever_dealt_false_shares_is_named_and_not_whoever_holds_them(
    dealer: str, what: str, secret: bytes
) -> None:
    these = stores(5, 0.4)
    server = summed_up(these, {"store-04": "mask"}, until="reveal")
    false = deal(these.session, dealer, what, secret, these.session.members, these.signing[dealer])
    for n in server.summed:
        reveal = these.members[n].reveal(server.signatures, these.roster)
        part = "seeds" if what == SEED else "keys"
        told = {**getattr(reveal, part), dealer: false[n]}
        server.take_reveal(n, replace(reveal, **{part: told}))
    with pytest.raises(SecureSumError, match=f"{dealer} dealt false shares of its {what}"):
        server.total()
    assert server.liars == {}


def test_a_share_that_its_dealer_did_not_sign_is_refused_before_anybody_pays() -> None:
    """Else its holder would be taken for a liar at the end."""
    these = stores()
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    first, second, *_ = these.session.members
    stranger = Ed25519PrivateKey.generate()
    letters = {
        n: m.share(adverts, these.roster, stranger if n == second else these.signing[n])[0][first]
        for n, m in members.items()
        if n != first
    }
    members[first].share(adverts, these.roster, these.signing[first])
    with pytest.raises(SecureSumError, match=f"Shares of {second} are not signed by it"):
        members[first].open(letters, these.roster)


def test_a_signed_share_is_good_in_one_session_for_one_holder_and_one_secret() -> None:
    these = stores()
    first, second, third, *_ = these.session.members
    share = deal(
        these.session, first, SEED, bytes(32), these.session.members, these.signing[first]
    )[second]
    other = replace(these.session, attempt="1" * 32)
    assert is_dealt(these.session, these.roster, first, second, SEED, share)
    assert not is_dealt(other, these.roster, first, second, SEED, share)
    assert not is_dealt(these.session, these.roster, third, second, SEED, share)
    assert not is_dealt(these.session, these.roster, first, third, SEED, share)
    assert not is_dealt(these.session, these.roster, first, second, KEY, share)


def test_shares_longer_than_any_are_not_looked_at() -> None:
    these = stores()
    server = summed_up(these, until="reveal")
    reveal = these.members["store-00"].reveal(server.signatures, these.roster)
    with pytest.raises(UpdateRejected, match="its shares are none"):
        server.take_reveal(
            "store-00", replace(reveal, seeds=dict.fromkeys(reveal.seeds, bytes(2**20)))
        )


def test_an_envelope_for_somebody_else_is_refused() -> None:
    these = stores()
    members = {n: Member(these.session, n) for n in these.session.members}
    adverts = {n: m.advert(these.signing[n]) for n, m in members.items()}
    shared = {n: m.share(adverts, these.roster, these.signing[n])[0] for n, m in members.items()}
    first, second, third, *_ = these.session.members
    letters = {n: shared[n][first] for n in shared if n != first}
    with pytest.raises(SecureSumError, match=f"envelope of {second}"):
        members[first].open({**letters, second: shared[second][third]}, these.roster)


def test_shares_of_others_than_asked_for_are_refused() -> None:
    these = stores()
    server = summed_up(these, until="reveal")
    reveal = these.members["store-00"].reveal(server.signatures, these.roster)
    with pytest.raises(UpdateRejected, match="others than it was asked for"):
        server.take_reveal("store-00", Reveal({}, reveal.seeds))


# -- what is kept, and settings ------------------------------------------------------------------------


def test_what_a_member_keeps_comes_back_whole_and_damage_is_named() -> None:
    these = stores()
    summed_up(these, until="reveal")
    member = these.members["store-01"]
    assert Member.from_json(member.to_json()) == member
    for damaged in ("", "{}", "[]", json.dumps({**json.loads(member.to_json()), "seed": "xx"})):
        with pytest.raises(SecureSumError, match="damaged"):
            Member.from_json(damaged)


@pytest.mark.parametrize(
    ("members", "enough", "threshold", "why"),
    [
        (2, 2, 2, "3 to 200"),
        (201, 201, 201, "3 to 200"),
        (4, 2, 2, "it takes 3 to 4"),
        (4, 3, 2, "it takes 3 shares"),
        (4, 3, 4, "it takes 3 shares"),
        (4, 5, 3, "it takes"),
    ],
)
def test_numbers_at_which_someone_could_be_unmasked_are_refused(
    members: int, enough: int, threshold: int, why: str
) -> None:
    with pytest.raises(SecureSumError, match=why):
        Session(
            "r", 1, "0" * 32, ORDER, tuple(f"{n:03d}" for n in range(members)), enough, threshold
        )


@pytest.mark.parametrize("names", [("b", "a", "c"), ("a", "a", "b")])
def test_members_are_named_once_each_in_order(names: tuple[str, ...]) -> None:
    with pytest.raises(SecureSumError, match="once each"):
        Session("r", 1, "0" * 32, ORDER, names, 2, 2)


@pytest.mark.parametrize("attempt", ["", "0" * 31, "g" * 32])
def test_an_attempt_has_a_name(attempt: str) -> None:
    with pytest.raises(SecureSumError, match="hex"):
        Session("r", 1, attempt, ORDER, ("a", "b", "c"), 2, 2)


@given(members=st.integers(3, 200), may_drop=st.floats(0, 0.4999))
def test_what_is_needed_always_makes_a_session(members: int, may_drop: float) -> None:
    enough, threshold = needed(members, may_drop)
    Session("r", 1, "0" * 32, ORDER, tuple(f"{n:03d}" for n in range(members)), enough, threshold)
    assert enough >= (1 - may_drop) * members - 1e-9


@pytest.mark.parametrize("may_drop", [-0.1, 0.5, 1.0, float("nan")])
def test_half_of_the_stores_can_never_drop_out(may_drop: float) -> None:
    with pytest.raises(SecureSumError, match="half"):
        needed(5, may_drop)


def test_adverts_say_what_they_are() -> None:
    these = stores()
    advert = Member(these.session, "store-00").advert(these.signing["store-00"])
    said = json.loads(advert.statement(these.session, "store-00"))
    assert said["schema"] == "privemo.secure-sum.advert/1"
    assert said["attempt"] == these.session.attempt
    assert isinstance(advert, Advert)
