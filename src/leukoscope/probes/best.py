import math

from torch import Tensor, nn


class Best:
    """Keeps the weights of the epoch with the least validation loss.

    Args:
        patience: epochs without a lower loss after which training has ``ended``; None keeps nothing, and never ends.
    """

    def __init__(self, patience: int | None) -> None:
        self.patience = patience
        self.seen = self.epoch = 0
        self.loss = math.inf
        self._weights: dict[str, Tensor] = {}

    def see(self, loss: float, network: nn.Module) -> None:
        """Count an epoch, and copy the weights of ``network`` where ``loss`` is the least so far."""
        self.seen += 1
        if self.patience is not None and loss < self.loss:
            self.loss, self.epoch = loss, self.seen
            self._weights = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @property
    def ended(self) -> bool:
        """Whether to stop."""
        return self.patience is not None and self.seen - self.epoch >= self.patience

    def restore(self, network: nn.Module) -> int:
        """Give ``network`` the kept weights; returns how many epochs they had been trained for in this stage."""
        if self._weights:
            network.load_state_dict(self._weights)
        return self.epoch or self.seen
