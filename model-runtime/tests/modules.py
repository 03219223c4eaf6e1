"""Writes TorchScript modules whose graphs the packing of linear layers must cope with: python modules.py DIRECTORY.

Each takes `x`, [rows, 300] in fp32, and lies in DIRECTORY/NAME/model.pt. 300 x 300 weights are enough to be packed.
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

WIDTH = 300


class Module(nn.Module):
    def __init__(self, out: int = WIDTH, bias: bool = True):
        super().__init__()
        self.linear = nn.Linear(WIDTH, out, bias)
        self.second = nn.Linear(WIDTH, WIDTH)


class Plain(Module):
    def forward(self, x):
        return self.linear(x)


class Gelu(Module):
    def forward(self, x):
        return F.gelu(self.linear(x))


class GeluTanh(Module):
    def forward(self, x):
        return F.gelu(self.linear(x), approximate="tanh")


class Relu(Module):
    def forward(self, x):
        return F.relu(self.linear(x))


class UsedTwice(Module):
    """What comes before the activation is wanted, too."""

    def forward(self, x):
        y = self.linear(x)
        return y + F.gelu(y)


class Residual(Module):
    """A sum in place must not reach into what oneDNN wrote, or the other way round."""

    def forward(self, x):
        y = self.second(F.relu(self.linear(x)))
        y += x
        return self.linear(y)


class Branch(Module):
    """Layers inside blocks of the graph."""

    def forward(self, x):
        if x.size(0) > 1:
            return F.gelu(self.linear(x))
        for _ in range(2):
            x = self.second(x)
        return x


class Fork(Module):
    def forward(self, x):
        future = torch.jit.fork(self.linear, x)
        return self.second(x) + torch.jit.wait(future)


class Tied(Module):
    """One weight as a table and as a layer, as language models have it."""

    def forward(self, x):
        return self.linear(x) + self.linear.weight[: x.size(0)]


class Counter(Module):
    """Keeps a state."""

    def __init__(self):
        super().__init__()
        self.calls = torch.zeros(1)

    def forward(self, x):
        self.calls += 1
        return self.linear(x) * 0 + self.calls


class Random(Module):
    def forward(self, x):
        return self.linear(x) * 0 + torch.rand_like(x)


def modules() -> dict[str, nn.Module]:
    return {
        "plain": Plain(),
        "without_bias": Plain(bias=False),
        "small": Plain(out=100),
        "double": Plain().double(),
        "bf16": Plain().bfloat16(),
        "gelu": Gelu(),
        "gelu_tanh": GeluTanh(),
        "relu": Relu(),
        "used_twice": UsedTwice(),
        "residual": Residual(),
        "branch": Branch(),
        "fork": Fork(),
        "tied": Tied(),
        "counter": Counter(),
        "random": Random(),
    }


def main() -> None:
    torch.manual_seed(1)
    for name, module in modules().items():
        directory = Path(sys.argv[1]) / name
        directory.mkdir()
        torch.jit.script(module).save(str(directory / "model.pt"))


if __name__ == "__main__":
    main()
