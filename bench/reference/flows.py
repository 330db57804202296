"""The rectified flows as plain loops: the same optimizers for all stages of a cascade, gradients clipped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from bench.reference.parts import Losses, endless, keep_default_layout, normalised
from cxrbench.contracts import Images, RunContext
from cxrbench_baselines.generators.cascade import Cascade, CascadeGenerator, padded, shrunk
from cxrbench_baselines.generators.flow_quilt import CoarseFlow, FlowQuilt
from cxrbench_baselines.generators.guided import WEIGHT_DECAY, kernels_of_blocks
from cxrbench_baselines.generators.quilt import COARSE
from cxrbench_baselines.muon import KernelMuon
from cxrbench_baselines.schedules import falling


def plain_cascade(plugin: CascadeGenerator, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """The nets, their average and what they take from all films at once (scales, components) are a fresh plug-in's."""
    plugin = dataclasses.replace(plugin)
    cascade, average, optimizers = _set_up(plugin, train, ctx)
    assert isinstance(cascade, Cascade)
    for part in (cascade.base, *cascade.refinements):
        keep_default_layout(part.get_submodule("enter"))

    for films, labels in endless(normalised(train), train.labels, plugin.batch, balanced=True):
        films, labels = padded(films.to(ctx.device)), labels.to(ctx.device)
        noise = torch.randn(len(films), cascade.base.noise_dims, device=ctx.device)
        times = torch.randn(len(films), device=ctx.device)
        losses = {"base_loss": cascade.base.loss(shrunk(films, cascade.base.size), labels, noise, times)}
        few, their_labels = films[: plugin.fine_batch], labels[: plugin.fine_batch]
        for number, stage in enumerate(cascade.refinements):
            fine, coarse = shrunk(few, stage.size), plugin.coarse(cascade, few, number)
            noise = torch.randn(len(fine), 2, stage.size, stage.size, device=ctx.device)
            draws = torch.randn(len(fine), 2, device=ctx.device)
            losses[f"refinement_{number + 1}_loss"] = stage.loss(fine, coarse, their_labels, noise, draws)

        for optimizer, _ in optimizers:
            optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        for part in (cascade.base, *cascade.refinements):
            nn.utils.clip_grad_norm_(part.parameters(), 1.0)
        for optimizer, schedule in optimizers:
            optimizer.step()
            schedule.step()
        average.update_parameters(cascade)
        yield {name: loss.item() for name, loss in losses.items()}


def plain_coarse_flow(plugin: FlowQuilt, train: Images, ctx: RunContext) -> Iterator[Losses]:
    """As ``plain_cascade``; the films are shrunk at every step."""
    plugin = dataclasses.replace(plugin)
    flow, average, optimizers = _set_up(plugin, train, ctx)
    assert isinstance(flow, CoarseFlow)
    keep_default_layout(flow.unet.enter)

    for films, labels in endless(normalised(train), train.labels, plugin.batch, balanced=True):
        coarse, labels = shrunk(padded(films.to(ctx.device)), COARSE), labels.to(ctx.device)
        noise = torch.randn(len(coarse), COARSE**2, device=ctx.device)
        loss = flow.unet.loss(coarse, labels, noise, torch.randn(len(coarse), device=ctx.device))

        for optimizer, _ in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), 1.0)
        for optimizer, schedule in optimizers:
            optimizer.step()
            schedule.step()
        average.update_parameters(flow)
        yield {"loss": loss.item()}


def _set_up(
    plugin: CascadeGenerator | FlowQuilt, train: Images, ctx: RunContext
) -> tuple[nn.Module, AveragedModel, list[tuple[torch.optim.Optimizer, LambdaLR]]]:
    """The net and its average, in the default layout, with optimizers and schedules of torch's own."""
    plugin.setup(train, ctx)
    parts = plugin.parts()
    net, average, adamw = (parts[name] for name in ("net", "average", "adamw"))
    assert isinstance(net, nn.Module)
    assert isinstance(average, AveragedModel)
    assert isinstance(adamw, torch.optim.AdamW)
    for each in (net, average):
        each.to(memory_format=torch.contiguous_format)
    own = [weight for group in adamw.param_groups for weight in group["params"]]  # the other weights are Muon's
    both: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(own, plugin.rate, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
    ]
    if "muon" in parts:
        both.append(KernelMuon(kernels_of_blocks(net), plugin.rate, WEIGHT_DECAY))
    return net, average, [(each, LambdaLR(each, lambda step: falling(step, ctx.budget))) for each in both]
