"""The classifiers as a plain loop: weighted cross-entropy, AdamW, one-cycle rate."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from bench.reference.parts import Losses, endless, normalised
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.classifiers.net import NetClassifier
from cxrbench_baselines.classifiers.torchvision_nets import GreyToImagenet


def plain_classifier(plugin: NetClassifier, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """Any ``NetClassifier``. ImageNet's three channels and normalisation are made once, before the loop."""
    net = plugin.build(len(train.classes), train.size)
    films = normalised(train)
    if isinstance(net, nn.Sequential) and isinstance(net[0], GreyToImagenet):
        films, net = net[0](films).contiguous(), net[1]
    net.to(ctx.device).train()
    optimizer = torch.optim.AdamW(net.parameters(), plugin.rate, weight_decay=plugin.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plugin.rate, total_steps=ctx.budget + 1)
    counts = np.bincount(train.labels, minlength=len(train.classes))
    weight = torch.from_numpy(len(train) / (len(counts) * counts)).float().to(ctx.device)
    criterion = nn.CrossEntropyLoss(weight=weight)
    for batch, labels in endless(films, train.labels, plugin.batch):
        optimizer.zero_grad()
        loss = criterion(net(batch.to(ctx.device)), labels.to(ctx.device))
        loss.backward()
        optimizer.step()
        schedule.step()
        yield {"loss": loss.item()}
