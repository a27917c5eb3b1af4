"""Lightning's MNIST image classifier: the PyTorch example's network and settings in a LightningModule and a Trainer."""

from __future__ import annotations

import lightning
import torch
import torch.nn.functional as F
from contract import Race, build_parser
from dataset import MNIST
from lightning.pytorch.callbacks import Callback, EarlyStopping
from mnist import load
from pytorch_example import Net
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Accuracy


class Classifier(lightning.LightningModule):
    """The example's network, loss, optimizer and schedule."""

    def __init__(self):
        super().__init__()
        self.model = Net()
        self.accuracy = Accuracy(task="multiclass", num_classes=10)

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        return F.nll_loss(self.model(images), labels)

    def validation_step(self, batch: list[Tensor], number: int) -> None:
        """Count correct predictions."""
        images, labels = batch
        self.accuracy(self.model(images), labels)
        self.log("accuracy", self.accuracy)

    def configure_optimizers(self) -> tuple[list, list]:
        """Use Adadelta at learning rate 1, times 0.7 after each epoch."""
        optimizer = torch.optim.Adadelta(self.parameters(), lr=1.0)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)]


class RaceCallback(Callback):
    """Adds each epoch's accuracy in the race."""

    def __init__(self, race: Race):
        self.race = race

    def on_validation_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Skip the two batches that Lightning tries before the first epoch."""
        if not trainer.sanity_checking:
            self.race.add(float(trainer.callback_metrics["accuracy"]))


def main() -> None:
    """Train until the target or the last epoch, with the Trainer's defaults (log, checkpoint, progress bar)."""
    options = build_parser().parse_args()
    lightning.seed_everything(options.seed)
    images, labels, test_images, test_labels = load(options.samples)
    race = Race(options.target)
    stop = EarlyStopping("accuracy", mode="max", patience=options.epochs, stopping_threshold=options.target - 1e-6)
    trainer = lightning.Trainer(max_epochs=options.epochs, callbacks=[RaceCallback(race), stop])
    trainer.fit(
        Classifier(),
        DataLoader(MNIST(images, labels), batch_size=options.batch_size, shuffle=True),
        DataLoader(MNIST(test_images, test_labels), batch_size=1000),
    )
    race.report()


if __name__ == "__main__":
    main()
