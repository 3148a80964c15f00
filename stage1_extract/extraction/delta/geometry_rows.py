"""Fills the store of changed projections inside a delta: no backbone runs, no file is read."""

from cache.coordination.claims import Claims, WorkerSlice, shards_to_do
from cache.delta.delta_rows import row_frame
from cache.writer import StoreWriter
from shared.data.features import FrameFeatures
from stage1_extract.preprocessing.raw_frames import RawFrames


def fill_geometry(writer: StoreWriter, frames: RawFrames, worker_slice: WorkerSlice) -> None:
    """Write the shards that have no ledger entry and that no other worker has claimed.

    Args:
        writer: of the store.
        frames: all samples of the base, under the condition.
        worker_slice: the shards to begin with.

    Raises:
        CacheError: if a value cannot be stored or the disk is full.
    """
    claims = Claims(writer.store)
    try:
        for shard in shards_to_do(writer.store, worker_slice, claims):
            places = range(shard.start, shard.start + len(shard.tokens))
            rows = [
                FrameFeatures(frame=row_frame(frames.frame(shard.variant, place), ""), maps={})
                for place in places
            ]
            writer.write_shard(shard, rows)
            claims.release(shard.index)
    finally:
        claims.release_all()
