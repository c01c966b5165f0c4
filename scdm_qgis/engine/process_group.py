"""Join the processes `torchrun` has started, so that they train one network together."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Iterator

import torch
import torch.distributed


@contextmanager
def joined_processes(device: torch.device) -> Iterator[torch.device]:
    """Set the process group up while training, and give the device this process trains on.

    On CUDA every process takes a GPU of its own.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    cuda = device.type == "cuda"
    if cuda:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if cuda and torch.distributed.is_nccl_available() else "gloo")
    try:
        yield device
    finally:
        torch.distributed.destroy_process_group()
