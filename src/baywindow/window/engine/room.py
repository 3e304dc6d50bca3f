"""Room for keys and values outside the device that computes: pinned host memory beside an accelerator, a file beside a CPU.

Beside a CPU host memory is the memory, so what is laid apart goes into a temporary file that is mapped: what is read of it comes into
memory and can be let go again. The file has no name (or is deleted when it is closed, where a system needs one), so nothing of it
outlives the process. It lies in Baywindow's cache folder, which is on a disk: a system's folder for temporary files may be memory.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor

from baywindow.errors import BudgetError
from baywindow.home import cache_dir
from baywindow.window.block import Block


@dataclass(frozen=True, eq=False)
class Room:
    """``keys`` [B, H, capacity, D] and ``values`` [B, H, capacity, Dv], not written yet; on a CPU in a ``file``."""

    keys: Tensor
    values: Tensor
    file: mmap.mmap | None

    @staticmethod
    def like(block: Block, capacity: int) -> Room:
        """Room for so many slots of such a block. Raises BudgetError if the disk has none."""
        shapes = [(*t.shape[:2], capacity, t.shape[3]) for t in (block.keys, block.values)]
        dtype, device = block.keys.dtype, block.keys.device
        if device.type != "cpu":
            pinned = device.type == "cuda"
            keys, values = (torch.empty(shape, dtype=dtype, pin_memory=pinned) for shape in shapes)
            return Room(keys, values, None)
        counts = [torch.Size(shape).numel() for shape in shapes]
        file = mapped(sum(counts) * dtype.itemsize)
        keys, values = (
            torch.frombuffer(file, dtype=dtype, count=count, offset=start * dtype.itemsize).view(shape)
            for count, start, shape in zip(counts, (0, counts[0]), shapes, strict=True)
        )
        return Room(keys, values, file)

    def let_go(self) -> None:
        """What was read or written need not stay in memory. On systems that cannot be told so it stays until they need the memory."""
        if self.file is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.file.madvise(mmap.MADV_DONTNEED)


def mapped(nbytes: int) -> mmap.mmap:
    """A new temporary file of this size, at least one byte, mapped and shared with nobody. Its blocks are reserved where the system can do
    that: writing into a mapped file on a full disk ends the process instead of raising an error."""
    folder = cache_dir("offload")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, nbytes))
            else:
                file.truncate(max(1, nbytes))
            return mmap.mmap(file.fileno(), max(1, nbytes))
    except OSError as error:
        raise BudgetError(
            f"there is no room for {nbytes / 2**20:.0f} MiB of keys and values in {folder}: {error.strerror}",
            hint="BAY_CACHE may name a folder on another disk",
        ) from error
