"""What the system refuses, in words: full and read-only disks, files without permission."""

import errno

CHECK_PATH = "check the path"
AGAIN = "and run the same command again"
REMEDIES = {
    errno.ENOSPC: f"free space on this disk {AGAIN}",
    errno.EDQUOT: f"free space or raise the quota {AGAIN}",
    errno.EFBIG: "this file system, or `ulimit -f`, does not allow files of this size",
    errno.EROFS: "choose a place that can be written to",
    errno.EACCES: "choose another place, or let this user read and write there",
    errno.EPERM: "choose another place, or let this user read and write there",
    errno.EIO: f"check the disk, or the network it is reached by, {AGAIN}",
    errno.ESTALE: f"check the disk, or the network it is reached by, {AGAIN}",
    errno.EMFILE: f"raise `ulimit -n` {AGAIN}",
    errno.ENFILE: f"let other programs close files {AGAIN}",
    errno.ENOENT: CHECK_PATH,
    errno.ENOTDIR: CHECK_PATH,
    errno.EISDIR: CHECK_PATH,
    errno.EEXIST: CHECK_PATH,
    errno.ELOOP: CHECK_PATH,
    errno.ENAMETOOLONG: CHECK_PATH,
}


def explain_system_fault(error: OSError) -> str | None:
    """Return where, what the system says and what to do; None if no user can have caused it.

    A wrong path counts only where the error names it.
    """
    remedy = REMEDIES.get(error.errno or 0)
    if remedy is None or (remedy == CHECK_PATH and error.filename is None):
        return None
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror}; {remedy}"
