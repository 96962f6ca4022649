"""Back-propagation through time, written out by hand for the vanilla network.

The network, of inputs x_1..x_T and a state h_0:

    a_t = W_xh x_t + W_hh h_{t-1} + b_h        h_t = tanh(a_t)        z_t = W_hz h_t + b_z        L = sum_t L_t(z_t)

What the loss says of each output is local to its step; for a softmax and for squared error it is the same difference,

    L_t = -log softmax(z_t)[y_t]     dL/dz_t = softmax(z_t) - onehot(y_t)
    L_t = |z_t - y_t|^2 / 2          dL/dz_t = z_t - y_t

A hidden vector speaks through its own output and through the next hidden vector, so its gradient is found backwards,

    dL/dh_t = W_hz' dL/dz_t + W_hh' dL/da_{t+1}        dL/da_t = (1 - h_t^2) dL/dh_t        dL/da_{T+1} = 0

and each weight, being the same at every step, collects what all steps say of it:

    dL/dW_hz = sum_t dL/dz_t h_t'          dL/db_z = sum_t dL/dz_t
    dL/dW_hh = sum_t dL/da_t h_{t-1}'      dL/dW_xh = sum_t dL/da_t x_t'      dL/db_h = sum_t dL/da_t

From T to t the gradient passes through the product of W_hh' diag(1 - h^2) over the steps between: T - t factors, which
is why it vanishes or explodes; see `probseq.recurrent.jacobians`.

Source: Rumelhart, Hinton & Williams (1986), "Learning internal representations by error propagation", section on
recurrent nets; Werbos (1990), "Backpropagation through time: what it does and how to do it".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probseq.recurrent.vanilla import Vanilla

OutputError = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Outputs z (B, L, K) and targets to the losses L_t (B, L) and dL_t/dz_t (B, L, K)."""


@dataclass(frozen=True, eq=False)
class VanillaNet:
    """The weights of a vanilla network with a linear output, or the gradient with respect to each.

    Attributes:
        w_xh: (H, D) input to hidden.
        w_hh: (H, H) hidden to hidden.
        b_h: (H,) hidden bias.
        w_hz: (K, H) hidden to output.
        b_z: (K,) output bias.
    """

    w_xh: Tensor
    w_hh: Tensor
    b_h: Tensor
    w_hz: Tensor
    b_z: Tensor

    @classmethod
    def of(cls, cell: Vanilla, output: nn.Linear) -> VanillaNet:
        """The weights of a tanh cell and of a linear output; b_h is the sum of torch's two biases, and the gradient
        with respect to it is that with respect to either."""
        w_xh, w_hh, b_x, b_h = (one.detach() for one in cell.weights)
        return cls(w_xh, w_hh, b_x + b_h, output.weight.detach(), output.bias.detach())

    def forward(self, inputs: Tensor, start: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (B, L, D) and h_0 (B, H), zeros by default, to h (B, L, H) and z (B, L, K)."""
        batch, length, _ = inputs.shape
        h = inputs.new_zeros(batch, length, len(self.b_h))
        before = h.new_zeros(batch, len(self.b_h)) if start is None else start
        for t in range(length):
            before = h[:, t] = torch.tanh(inputs[:, t] @ self.w_xh.T + before @ self.w_hh.T + self.b_h)
        return h, h @ self.w_hz.T + self.b_z


@dataclass(frozen=True, eq=False)
class Backpropagation:
    """What `backpropagate` finds.

    Attributes:
        loss: (B,) the sum of L_t over each sequence's own steps.
        gradient: dL/dW of the sum over the batch, in the shapes of the weights.
        outputs: (B, L, K) dL/dz_t; zeros after the end of a sequence.
        hidden: (B, L, H) dL/dh_t, through step t and all later ones; zeros after the end.
        start: (B, H) dL/dh_0.
        inputs: (B, L, D) dL/dx_t.
    """

    loss: Tensor
    gradient: VanillaNet
    outputs: Tensor
    hidden: Tensor
    start: Tensor
    inputs: Tensor


def softmax_error(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """L_t = -log softmax(z_t)[y_t] in nats; targets (B, L) are codes 0..K-1."""
    log_prob = torch.log_softmax(outputs, dim=-1)
    codes = targets.long().unsqueeze(-1)
    minus_one = torch.full_like(codes, -1, dtype=outputs.dtype)
    return -log_prob.gather(-1, codes).squeeze(-1), log_prob.exp().scatter_add(-1, codes, minus_one)


def squared_error(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """L_t = |z_t - y_t|^2 / 2; targets (B, L, K)."""
    difference = outputs - targets
    return difference.square().sum(-1) / 2, difference


def backpropagate(
    net: VanillaNet,
    inputs: Tensor,
    targets: Tensor,
    error: OutputError = softmax_error,
    lengths: Tensor | None = None,
    start: Tensor | None = None,
) -> Backpropagation:
    """The loss of a batch and its gradient, by the equations above and nothing else.

    Args:
        net: the weights.
        inputs: x (B, L, D), padded after the end of each sequence.
        targets: y, as `error` wants them; anything valid stands after the end of a sequence.
        error: the loss of one step and its derivative: `softmax_error` or `squared_error`.
        lengths: (B,) steps of each sequence; None when all have L.
        start: h_0 (B, H); None is zeros.

    >>> one = VanillaNet(*(torch.ones(shape) for shape in [(1, 1), (1, 1), (1,), (1, 1), (1,)]))
    >>> back = backpropagate(one, torch.zeros(1, 2, 1), torch.zeros(1, 2, 1), squared_error)
    >>> back.gradient.b_z.allclose(back.outputs.sum(1)[0])
    True
    """
    with torch.no_grad():
        start = inputs.new_zeros(len(inputs), len(net.b_h)) if start is None else start
        own = torch.full((len(inputs),), inputs.shape[1]) if lengths is None else lengths
        runs = (torch.arange(inputs.shape[1]) < own.unsqueeze(-1)).unsqueeze(-1).to(inputs.device)  # (B, L, 1)
        inputs = torch.where(runs, inputs, 0.0)
        h, z = net.forward(inputs, start)
        losses, dz = error(z, targets)
        losses, dz = torch.where(runs.squeeze(-1), losses, 0.0), torch.where(runs, dz, 0.0)

        dh, da = torch.zeros_like(h), torch.zeros_like(h)
        from_later = torch.zeros_like(start)  # W_hh' dL/da_{t+1}
        for t in reversed(range(inputs.shape[1])):
            dh[:, t] = dz[:, t] @ net.w_hz + from_later
            da[:, t] = (1 - h[:, t].square()) * dh[:, t]
            from_later = da[:, t] @ net.w_hh

        before = torch.cat([start.unsqueeze(1), h], dim=1)[:, :-1]
        gradient = VanillaNet(
            w_xh=torch.einsum("bth,btd->hd", da, inputs),
            w_hh=torch.einsum("bth,btg->hg", da, before),
            b_h=da.sum((0, 1)),
            w_hz=torch.einsum("btk,bth->kh", dz, h),
            b_z=dz.sum((0, 1)),
        )
        return Backpropagation(losses.sum(1), gradient, dz, dh, from_later, da @ net.w_xh)
