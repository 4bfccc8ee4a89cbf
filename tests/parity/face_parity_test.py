"""The face encoder against a small PyTorch IResNet written here after the published layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn

from ft_jax.convert import table
from ft_jax.convert.arcface import arcface
from ft_jax.models import face

CFG = face.Config(pixels=32, widths=(8, 8, 12, 16), blocks=(1, 2, 1, 1), width=10)


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        y = self.bn3(self.conv2(y))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        inputs = CFG.widths[0]
        self.conv1 = nn.Conv2d(3, inputs, 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(inputs), nn.PReLU(inputs)
        for level, (width, blocks) in enumerate(zip(CFG.widths, CFG.blocks, strict=True)):
            layers = [Block(inputs, width, 2)] + [Block(width, width, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{level + 1}", nn.Sequential(*layers))
            inputs = width
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * (CFG.pixels // 16) ** 2, CFG.width)
        self.features = nn.BatchNorm1d(CFG.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for level in range(4):
            x = getattr(self, f"layer{level + 1}")(x)
        return nn.functional.normalize(self.features(self.fc(self.bn2(x).flatten(1))))


def test_embedding_equals_the_torch_layout():
    torch.manual_seed(0)
    model = IResNet().eval()
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.dtype == torch.float32:
                value.add_(0.1 * torch.rand(value.shape))
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    abstract = jax.eval_shape(functools.partial(face.init, cfg=CFG), jax.random.key(0))
    params = jax.tree.map(jnp.asarray, table.to_params(arcface(CFG), tensors, abstract))
    crops = np.random.default_rng(0).uniform(-1, 1, size=(3, 32, 32, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(crops).permute(0, 3, 1, 2)).numpy()
    ours = jax.jit(face.embed, static_argnums=1)(params, CFG, jnp.asarray(crops))
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
