"""A few ends of the soak, each kind once; `python -m tests.soak --kills=100` is the long one."""

import pytest

from tests import soak


@pytest.mark.slow
def test_a_run_that_is_ended_again_and_again_ends_as_one_that_was_not(tmp_path):
    lives, faults = soak.soak(tmp_path, kills=len(soak.KINDS))
    assert sorted(life.kind for life in lives) == sorted(soak.KINDS)
    assert [life.faults for life in lives] == [[]] * len(lives)
    assert faults == []
