"""Files are written completely or not at all."""

import threading

import pytest

from cldis_jax.runtime import visualize
from cldis_jax.runtime.errors import UserError
from cldis_jax.runtime.files import append, atomic, check_writable


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic(path, "w") as file:
        file.write("one")
        file.flush()
        assert not path.exists()
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_after_an_error_the_old_content_remains(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail():
        with atomic(path) as file:
            file.write(b"half of the ne")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_a_path_that_can_not_be_written_is_a_user_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/picture\.png can't be written: ") as error:
        visualize.save_png(tmp_path / "file" / "picture.png", None)
    assert isinstance(error.value, OSError)


def test_two_threads_may_write_one_file(tmp_path):
    """One finishes inside the block of the other; both succeed, and the one that ends last wins."""
    path = tmp_path / "result"

    def write_inside():
        with atomic(path) as file:
            file.write(b"inner")

    with atomic(path) as file:
        file.write(b"outer")
        thread = threading.Thread(target=write_inside)
        thread.start()
        thread.join()
        assert path.read_bytes() == b"inner"
    assert path.read_bytes() == b"outer"
    assert [found.name for found in tmp_path.iterdir()] == ["result"]


def test_whether_a_path_can_be_written_is_known_before_the_work(tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_text("old")
    check_writable(kept)
    check_writable(tmp_path / "new" / "a.json")
    assert kept.read_text() == "old"
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(UserError, match=r"kept\.json/a\.json can't be written: "):
        check_writable(kept / "a.json")
    with pytest.raises(UserError, match=r"new can't be written: it is a folder"):
        check_writable(tmp_path / "new")


def test_files_in_a_bucket(bucket, tmp_path):
    bucket.mkdir(parents=True)
    check_writable(bucket / "a.txt")
    assert list(bucket.iterdir()) == []
    for text in ("one\n", "two\n"):
        append(bucket / "a.txt", text)
    assert (tmp_path / "bucket/run/a.txt").read_text() == "one\ntwo\n"
    with atomic(bucket / "a.txt") as file:
        file.write(b"new")
    assert (tmp_path / "bucket/run/a.txt").read_text() == "new"
    assert [file.name for file in bucket.iterdir()] == ["a.txt"]
