"""Numbers in messages, as people write them."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 shard", "0 shards", "28130 samples"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time in seconds below two minutes, in minutes below two hours, else in hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
