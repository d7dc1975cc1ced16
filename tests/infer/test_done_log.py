from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.infer.sinks import DoneLog

MADE = "0123abcd"
TILES = st.lists(st.integers(0, 3000), max_size=12, unique=True)


def log_of(path: Path, tiles: list[int], made_from: str = MADE) -> DoneLog:
    log = DoneLog(path, made_from)
    for tile in tiles:
        log.add(tile)
    log.close()
    return log


def held(log: DoneLog) -> set[int]:
    return {tile for tile in range(3001) if tile in log}


@settings(max_examples=40, deadline=None)
@given(TILES, TILES, st.data())
def test_a_log_cut_anywhere_never_claims_a_tile_that_was_not_finished(first, second, data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "done.log"
        log_of(path, first)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        kept = held(DoneLog(path, MADE))
        lines = whole[:cut].count(b"\n")
        assert kept == set(first[: max(0, lines - 1)])
        log_of(path, second)
        assert held(DoneLog(path, MADE)) == kept | set(second)


def test_a_log_of_other_makings_is_begun_anew(tmp_path):
    log_of(tmp_path / "done.log", [1, 2])
    log = log_of(tmp_path / "done.log", [5], made_from="other")
    assert log.is_new
    assert held(DoneLog(tmp_path / "done.log", "other")) == {5}
    assert len(DoneLog(tmp_path / "done.log", MADE)) == 0


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_no_log_of_ours(data):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "done.log"
        path.write_bytes(data)
        log = DoneLog(path, MADE)
        assert log.is_new
        log.close()


def test_odd_lines_are_no_tiles(tmp_path):
    path = tmp_path / "done.log"
    path.write_bytes(f"{MADE}\n1\n-2\n\xb2\n{'9' * 5000}\n 3\n4\n".encode("latin-1"))
    assert held(DoneLog(path, MADE)) == {1, 4}
