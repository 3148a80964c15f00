"""Writers that are killed, and writers that race, leave every shard complete or absent."""

import subprocess
import sys
from pathlib import Path

from cache.coordination.store import open_store
from cache.reader import CachedFeatures
from cache.verification.verify_store import verify
from tests.cache.conftest import fill, make_features, make_writer

REPOSITORY = Path(__file__).parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.cache.conftest import fill, make_writer

files, real_fsync = 0, os.fsync
def fsync_or_die(descriptor):
    global files
    files += 1
    if files == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    real_fsync(descriptor)

writer = make_writer(Path(sys.argv[1]))
os.fsync = fsync_or_die
fill(writer)
"""


def run_script(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=REPOSITORY)


def test_after_kills_at_any_file_the_store_can_be_completed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    make_writer(path)
    for at in (1, 20, 27):
        assert run_script(KILLED, path, at).wait() == -9
    assert list(path.rglob("*.partial"))

    fill(make_writer(path))

    assert not verify(open_store(path)).damages
    assert not [file for file in path.rglob("*.partial") if "ledger" not in file.parts]


RACING = """
import sys, time
from pathlib import Path
from tests.cache.conftest import make_features, make_writer, with_map

writer = make_writer(Path(sys.argv[1]), rows_per_shard=1)
path, offset = Path(sys.argv[1]), float(sys.argv[2])
path.with_name(f"ready{offset}").touch()
while len(list(path.parent.glob("ready*"))) < 2:
    time.sleep(0.001)
for shard in writer.shards:
    features = make_features(shard.tokens[0])
    for name, values in features.maps.items():
        features = with_map(features, name, values + offset)
    writer.write_shard(shard, [features])
"""


def test_two_processes_on_the_same_shards_end_in_one_intact_store(tmp_path: Path) -> None:
    """Their numbers differ, as on two GPUs; no shard may mix the two."""
    path = tmp_path / "store"
    racers = [run_script(RACING, path, offset) for offset in (0.0, 1.0)]
    assert [process.wait() for process in racers] == [0, 0]

    store = open_store(path)
    assert not verify(store).damages
    for read in CachedFeatures(path).read(store.samples.tokens):
        written = make_features(read.frame.token).maps
        offsets = {round(float((read.maps[n] - written[n]).mean())) for n in written}
        assert len(offsets) == 1
