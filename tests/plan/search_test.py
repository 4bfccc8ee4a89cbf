"""What a search compiles, what it passes over, and which rows are best."""

import dataclasses

import jax
import pytest

from configs import stage1_clip
from ft_jax.cli import plan
from ft_jax.plan import search
from ft_jax.plan.chips import CHIPS
from ft_jax.sharding.rules import TABLES


def test_every_candidate_goes_round_and_whole_weights_are_among_them():
    found = search.candidates(64, accumulate=2)
    assert len(set(found)) == len(found)
    for one in found:
        assert one.data * one.fsdp * one.context == 64
        assert one.samples % (2 * one.data * one.fsdp) == 0
    assert {one.rules for one in found} == set(TABLES)
    assert {one.remat for one in found} == set(search.KEPT)


def test_what_asks_for_more_than_what_did_not_fit_is_hopeless():
    failed = search.Candidate("fsdp", 1, 16, 4, "attention", 32)
    change = lambda **other: dataclasses.replace(failed, **other)  # noqa: E731
    assert search.hopeless(failed, [failed])
    assert search.hopeless(change(samples=64, remat="attention_inputs"), [failed])
    for other in ({"remat": "full"}, {"samples": 16}, {"fsdp": 8, "data": 2}, {"rules": "x"}):
        assert not search.hopeless(change(**other), [failed])
    assert not search.hopeless(failed, [])


def row(step: float, samples: int, share: float) -> dict:
    """As a report has it."""
    return {"bounds": {"step": step}, "samples": samples, "memory": {"share": share}}


def test_the_front_holds_what_no_other_beats_in_both():
    fast, small, beaten = row(2.0, 4, 0.9), row(3.0, 4, 0.5), row(4.0, 4, 0.6)
    many = row(4.0, 8, 0.8)  # as fast by the sample as the first, with less memory
    rows = [beaten, small, row(1.0, 4, 1.1), fast, many, {"fits": False}]
    assert list(search.front(rows)) == [many, small]


@pytest.fixture(scope="module")
def settings():
    return stage1_clip.get_config("tiny").to_dict()


def test_a_search_compiles_what_may_fit_and_goes_on_where_it_ended(settings, monkeypatch):
    monkeypatch.setattr(search, "GROUPS", (2,))
    asked, one, chip = [], jax.devices()[:1], CHIPS["v5e"]

    def examine(settings, devices, chip):
        asked.append((settings["mesh"]["rules"], settings["model"]["denoiser"]["dit"]["remat"]))
        assert settings["data"]["batch_size"] == 2 and settings["mesh"]["fsdp"] == 1
        if asked[-1] == ("fsdp", "attention"):
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return row(1.0, 2, 0.5)

    monkeypatch.setattr(plan, "examine", examine)
    (first,) = plan.searched(settings, one, chip, 1, [])
    assert first["fits"] and first["samples"] == 2 and asked == [("replicated", "full")]
    rest = list(plan.searched(settings, one, chip, 9, [first]))
    assert (
        len(asked) == len(set(asked)) == 5
    )  # what keeps more than what did not fit is passed over
    assert [each["fits"] for each in rest] == [True, True, True, False]
    assert ("fsdp", "attention_inputs") not in asked


def test_what_is_given_more_than_there_is_is_not_compiled(settings, monkeypatch):
    monkeypatch.setattr(plan, "examine", None)
    small = dataclasses.replace(CHIPS["v5e"], memory=1000.0)
    rows = list(plan.searched(settings, jax.devices()[:1], small, 9, []))
    assert {each["fits"] for each in rows} == {False}
    assert {each["candidate"]["remat"] for each in rows} == {"full"}
