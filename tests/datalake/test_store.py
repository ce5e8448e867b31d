"""Small results that are computed once ever."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from argyase.datalake.errors import CorruptRunError
from argyase.datalake.store import Store, failures

KEY = "ab" * 32


@given(
    st.dictionaries(st.sampled_from("abc"), arrays(float, st.tuples(st.integers(0, 3), st.integers(0, 3))), min_size=1)
)
@settings(max_examples=20, deadline=None)
def test_what_is_put_is_got(tmp_path_factory: pytest.TempPathFactory, values: dict[str, np.ndarray]) -> None:
    store = Store(tmp_path_factory.mktemp("lake"), "x")
    assert KEY not in store
    assert store.get(KEY) is None
    store.put(KEY, values)
    assert KEY in store
    found = store.get(KEY)
    assert found is not None
    assert set(found) == set(values)
    for name, array in values.items():
        np.testing.assert_array_equal(found[name], array)


def test_failures_are_kept_until_it_works(tmp_path: Path) -> None:
    store = Store(tmp_path, "x")
    assert store.failure(KEY) is None
    store.fail(KEY, "not converged")
    assert store.failure(KEY) == "not converged"
    assert store.settled(KEY)
    store.forget_failure(KEY)
    assert not store.settled(KEY)
    store.fail(KEY, "not converged again")
    store.put(KEY, {"a": 1.0})
    assert store.failure(KEY) is None
    assert store.settled(KEY)


def test_all_failures_are_listed(tmp_path: Path) -> None:
    assert failures(tmp_path) == []
    first, second = Store(tmp_path, "x"), Store(tmp_path, "y")
    first.fail(KEY, "not converged", {"frame": "run 3"})
    second.fail("cd" * 32, "killed")
    second.put("ef" * 32, {"a": 1.0})
    os.utime(tmp_path / "store" / "x" / "ab" / f"{KEY}.failed", (1, 1))
    # As an older lake has it: the reason alone.
    (tmp_path / "store" / "y" / "cd" / f"{'cd' * 32}.failed").write_text("killed\nby hand")
    assert [(f.name, f.key, f.reason, f.about) for f in failures(tmp_path)] == [
        ("x", KEY, "not converged", {"frame": "run 3"}),
        ("y", "cd" * 32, "killed\nby hand", {}),
    ]
    assert second.failure("cd" * 32) == "killed\nby hand"
    first.forget_failure(KEY)
    assert [f.name for f in failures(tmp_path)] == ["y"]


def test_one_claims(tmp_path: Path) -> None:
    store = Store(tmp_path, "x")
    with store.claim(KEY) as first, store.claim(KEY) as second, store.claim("cd" * 32) as other:
        assert (first, second, other) == (0, None, 0)
    with store.claim(KEY) as again:
        assert again == 0
    with pytest.raises(KeyboardInterrupt), store.claim(KEY):
        raise KeyboardInterrupt
    with store.claim(KEY) as still:
        assert still == 0


def test_the_claim_of_a_killed_process_is_free_and_its_death_counted(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom argyase.datalake.store import Store\n"
        f"with Store(Path(sys.argv[1]), 'x').claim('{KEY}') as ours:\n"
        "    print(ours, flush=True)\n    time.sleep(60)\n"
    )
    # Not from the source tree: there the package has no compiled parts.
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd="/"
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "0"
    store = Store(tmp_path, "x")
    with store.claim(KEY) as ours:
        assert ours is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    ours = None
    while ours is None and time.monotonic() < deadline:
        with store.claim(KEY) as ours:
            pass
    assert ours == 1
    store.fail(KEY, "given up")
    with store.claim(KEY) as afresh:
        assert afresh == 0


def test_a_damaged_result_is_reported(tmp_path: Path) -> None:
    store = Store(tmp_path, "x")
    store.put(KEY, {"a": np.arange(100.0)})
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptRunError, match=f"{KEY}.npz: damaged"):
        store.get(KEY)
