"""Who the processes of a run are."""

import pytest

from ft_jax.cli import processes
from ft_jax.errors import UsageError


def test_the_flag_names_address_count_and_index():
    assert processes.parse("10.0.0.2:1234,4,3") == ("10.0.0.2:1234", 4, 3)


@pytest.mark.parametrize("text", ["host,2,0", "host:1,2,2", "host:1,2", "host:1,0,0", "host:1,a,0"])
def test_another_form_is_refused(text: str):
    with pytest.raises(UsageError, match=r"--processes: .*expected HOST:PORT,COUNT,INDEX"):
        processes.parse(text)
