import json

import pytest

from ft_jax.training.patience import NotFiniteError, Patience

GOOD = {"loss": 1.0, "gradient_norm": 1.0, "mean": float("nan")}  # `mean` is not watched


@pytest.mark.parametrize("name", ["loss", "gradient_norm"])
def test_the_first_step_too_many_stops_with_the_records_of_its_batch(tmp_path, name):
    patience = Patience(tmp_path, 0)
    assert patience.is_finite(6, GOOD, ["good"])
    assert not list(tmp_path.iterdir())
    with pytest.raises(NotFiniteError, match=rf"step 7: {name} is inf; .*\(records bad; "):
        patience.is_finite(7, {**GOOD, name: float("inf")}, ["bad"])
    (note,) = (tmp_path / "bad_batches.jsonl").read_text().splitlines()
    assert json.loads(note)["ids"] == ["bad"] and json.loads(note)["metrics"][name] == "inf"


def test_only_steps_in_a_row_wear_patience_out(tmp_path):
    patience, bad = Patience(tmp_path, 2), {**GOOD, "loss": float("nan")}
    for step in range(6):
        assert patience.is_finite(step, GOOD if step % 3 == 2 else bad, ["a"]) == (step % 3 == 2)
    assert not patience.is_finite(6, bad, ["a"]) and not patience.is_finite(7, bad, ["a"])
    with pytest.raises(NotFiniteError, match="step 8: loss is nan after 2"):
        patience.is_finite(8, bad, ["a"])
    assert len((tmp_path / "bad_batches.jsonl").read_text().splitlines()) == 7
