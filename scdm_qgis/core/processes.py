"""The processes that train one network together, each on its share of every batch."""

from __future__ import annotations

from typing import List

import torch
import torch.distributed
from torch import Tensor


class Processes:
    """This process and its peers, as `torchrun` started them; alone where no process group is set up."""

    def __init__(self) -> None:
        together = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if together else 0
        self.count = torch.distributed.get_world_size() if together else 1

    def share(self, batch_size: int) -> slice:
        """Return which samples of a batch of `count * batch_size` are this process's."""
        return slice(self.rank * batch_size, (self.rank + 1) * batch_size)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.count == 1:
            return value
        total = value.clone()
        torch.distributed.all_reduce(total)
        return total

    def sum_gradients(self, gradients: List[Tensor]) -> None:
        """Replace gradients by their sums over all processes, in one message."""
        if self.count == 1:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch.distributed.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(summed.view_as(gradient))
