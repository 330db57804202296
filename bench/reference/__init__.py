"""The reference plug-ins' training as plain PyTorch: what the plug-ins' own speed is measured against.

Each loop trains the networks of one plug-in, with its losses, rates, penalties and averages, the way PyTorch's
own tutorials (DCGAN; training a classifier) write it: float32, default memory format, a DataLoader over films
normalised up front, Adam as it comes, one discriminator pass for real and one for generated films, gradients
for the discriminator also in the generator's step, and ``loss.item()`` at every step. What differs in time is
the loop, not the model. The DataLoader has no worker processes: batches of tensors that lie in memory are
cheaper to collate than to send from one process to another.

A loop is an iterator: each ``next`` does one training step and returns its losses. Batches and noise are not
those of the plug-in, so losses agree in kind and not in value.
"""
