"""Small residual networks whose removable blocks are known."""

import torch
from torch import nn

from sparsify.capture import capture


class Wired(nn.Module):
    """Runs `wire(self, *inputs)` over named parts, so that a test shows its network's wiring in one line."""

    def __init__(self, wire, **parts):
        super().__init__()
        self.wire = wire
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs):
        return self.wire(self, *inputs)


class Mlp(nn.Module):
    """`depth` blocks x + f(x) between a stem and a head."""

    def __init__(self, depth=3, width=4, hidden=6):
        super().__init__()
        self.stem = nn.Linear(3, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class BasicBlock(nn.Module):
    """The post-activation block of a ResNet, with the activation as a part."""

    def __init__(self, width, out, stride=1, act=nn.ReLU):
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.act = act()
        self.downsample = None
        if stride != 1 or width != out:
            self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
        x += shortcut
        return self.act(x)


class ResNet(nn.Module):
    """Two stages of two blocks; `stem_act` says whether the first block reads what an activation wrote."""

    def __init__(self, act=nn.ReLU, stem_act=True):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.act = act() if stem_act else nn.Identity()
        self.layer1 = nn.Sequential(BasicBlock(4, 4, act=act), BasicBlock(4, 4, act=act))
        self.layer2 = nn.Sequential(BasicBlock(4, 6, 2, act=act), BasicBlock(6, 6, act=act))
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        x = self.layer2(self.layer1(self.act(self.conv1(x))))
        return self.fc(x.mean((2, 3)))


def settled(model):
    """Give batch norms statistics of their own and leave the model in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return model.eval()


def mlp(depth=3, width=4, hidden=6, seed=0):
    torch.manual_seed(seed)
    model = Mlp(depth, width, hidden).eval()
    return model, capture(model, (torch.randn(2, 3),))


def resnet(seed=0, **options):
    torch.manual_seed(seed)
    model = settled(ResNet(**options))
    return model, capture(model, (torch.randn(2, 3, 8, 8),))


def lines(width=4, n=1):
    """Return `n` linear layers of one width as keyword arguments for `Wired`: a, b, c, ..."""
    return {chr(97 + i): nn.Linear(width, width) for i in range(n)}


def wired(wire, inputs, **parts):
    """Capture a `Wired` network; its parts get fixed random weights."""
    torch.manual_seed(0)
    model = settled(Wired(wire, **parts))
    return model, capture(model, inputs)
