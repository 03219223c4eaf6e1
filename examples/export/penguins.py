"""A model of plain tensors, trained here in seconds: the species of a penguin from four measurements and its island.

Why: it shows and tests the task `tensors`, with several inputs and outputs of different datatypes. The data (344 penguins; Horst, Hill and
Gorman, CC0) are a file that the package palmerpenguins ships; the package itself is not used. Every tenth penguin is held back and says how well
the net learnt (the export fails below `LEAST_ACCURACY`).
"""

from __future__ import annotations

import csv

import torch

from packages import files_in

NAME = "penguins"
VERSION = "1"
LICENSE = "CC0-1.0"
ATTRIBUTION = "trained on palmerpenguins by A. M. Horst, A. P. Hill and K. B. Gorman, CC0, https://allisonhorst.github.io/palmerpenguins"

# What runtime.toml says: name, datatype, and the shape of one penguin.
INPUTS = [("measurements", "FP32", [4]), ("island", "INT64", [1])]
OUTPUTS = [("probabilities", "FP32", [3]), ("species", "INT64", [1])]

MEASUREMENTS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
ISLANDS = ["Biscoe", "Dream", "Torgersen"]
SPECIES = ["Adelie", "Chinstrap", "Gentoo"]

HELD_BACK = 10  # every tenth penguin
LEAST_ACCURACY = 0.9
EPOCHS = 200


class TrainingFailed(Exception):
    """The net did not learn; the text says how badly."""


class Classifier(torch.nn.Module):
    """`forward(measurements [n, 4], island [n, 1])` gives the probability of each species, and the likeliest one."""

    def __init__(self, mean: torch.Tensor, spread: torch.Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)
        self.register_buffer("islands", torch.arange(len(ISLANDS)))
        width = len(MEASUREMENTS) + len(ISLANDS)
        self.layers = torch.nn.Sequential(torch.nn.Linear(width, 16), torch.nn.Tanh(), torch.nn.Linear(16, len(SPECIES)))

    def forward(self, measurements: torch.Tensor, island: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.logits(measurements, island)
        return logits.softmax(-1), logits.argmax(-1, keepdim=True)

    def logits(self, measurements: torch.Tensor, island: torch.Tensor) -> torch.Tensor:
        # Compared, not looked up: a number of no island is none of them, and no index out of range.
        return self.layers(torch.cat([(measurements - self.mean) / self.spread, (island == self.islands).float()], dim=-1))


def load() -> Classifier:
    """The trained net, ready for inference."""
    torch.manual_seed(0)
    (measurements, island), species = rows()
    model = Classifier(measurements.mean(0), measurements.std(0))
    asked = torch.arange(len(species)) % HELD_BACK == 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(EPOCHS):
        loss = torch.nn.functional.cross_entropy(model.logits(measurements[~asked], island[~asked]), species[~asked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = (model(measurements[asked], island[asked])[1].flatten() == species[asked]).float().mean().item()
    print(f"  trained on {int((~asked).sum())} penguins; {accuracy:.1%} right on {int(asked.sum())} held back")
    if accuracy < LEAST_ACCURACY:
        raise TrainingFailed(f"the penguin model is right on only {accuracy:.1%} of the penguins held back")
    return model.eval()


def rows() -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The inputs of all penguins that were measured, and their species."""
    file = files_in("palmerpenguins", "data", "penguins.csv") / "penguins.csv"
    with file.open(newline="", encoding="utf-8") as lines:
        penguins = [row for row in csv.DictReader(lines) if all(row[name] != "NA" for name in MEASUREMENTS)]
    measurements = torch.tensor([[float(row[name]) for name in MEASUREMENTS] for row in penguins])
    island = torch.tensor([[ISLANDS.index(row["island"])] for row in penguins])
    return (measurements, island), torch.tensor([SPECIES.index(row["species"]) for row in penguins])
