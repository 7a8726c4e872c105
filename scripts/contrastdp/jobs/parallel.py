"""Data-parallel training: every process draws the same batch and takes its part of it.

A batch comes from one random stream, which all processes have, so what is trained on does not
depend on how many there are. The gradient of the batch's mean loss is the sum of the parts'
gradients, each part's mean loss being weighted with its share of the batch.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from contrastdp.errors import InputError
from contrastdp.jobs.processes import Lost
from contrastdp.streams import derive_seed

# Process 0 alone validates, however long; a process that fails is found by its end, not by this.
TIMEOUT = timedelta(days=30)


@dataclass(frozen=True)
class Group:
    """The processes that train one network together, seen from one of them.

    rank: which one, of which 0 alone validates, logs and writes; size: how many.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that validates, logs and writes."""
        return self.rank == 0

    def part(self, piece: slice) -> slice:
        """This process's part of a piece of the batch; parts differ by one image at most."""
        count = piece.stop - piece.start
        low, high = (count * rank // self.size for rank in (self.rank, self.rank + 1))
        return slice(piece.start + low, piece.start + high)

    def check(self, batch: int, micro_batch: int | None) -> None:
        """Raise InputError where some pass of a batch leaves a process without an image."""
        passed = micro_batch or batch
        fewest = min(passed, batch % passed or passed)
        if fewest < self.size:
            raise InputError(
                f"{self.size} processes: a pass of {fewest} images (batch {batch}, micro_batch "
                f"{passed}) has not one for each; use fewer GPUs or larger passes"
            )

    @torch.no_grad()
    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put the sum over the processes into each tensor, the same bits in all of them."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        with answered():
            distributed.all_reduce(flat)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def add_up_gradients(
        self, parameters: Iterable[torch.nn.Parameter], *more: torch.Tensor
    ) -> None:
        """add_up of the parameters' gradients, where they have one, and of `more`."""
        if self.size > 1:
            self.add_up([p.grad for p in parameters if p.grad is not None] + list(more))

    def seed_dropout(self, seed: int, step: int) -> None:
        """Give torch's global stream a seed of this process and step; nothing in one process.

        Else all processes would drop the same units of their own images.
        """
        if self.size > 1:
            torch.manual_seed(derive_seed(seed, "process", self.rank, "step", step))


ALONE = Group()


@contextmanager
def answered() -> Iterator[None]:
    """Tell a failure to reach the other processes from one of this process."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(f"lost the others ({str(error).splitlines()[0][:100]})") from None


@contextmanager
def joined(rank: int, size: int, folder: str | Path) -> Iterator[Group]:
    """Join the processes of a job inside the block; folder: an empty one that all of them see.

    Over NCCL where torch sees a GPU, which is to be this process's alone, else over gloo.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with answered():
        distributed.init_process_group(
            backend,
            init_method=f"file://{Path(folder).resolve()}/rendezvous",
            rank=rank,
            world_size=size,
            timeout=TIMEOUT,
        )
    yield Group(rank, size)
    # Only where all went well: it waits for the others.
    distributed.destroy_process_group()
