"""Gradients and Adam compared to PyTorch's."""

import pytest
import torch

from agents.mlp import MLP, Adam


def network(seed: int = 0) -> MLP:
    return MLP((3, 6, 5, 2), torch.Generator().manual_seed(seed))


def reference(mlp: MLP) -> torch.nn.Sequential:
    """The same network as PyTorch modules."""
    modules = [torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2)]
    linear = [module for module in modules if isinstance(module, torch.nn.Linear)]
    start = 0
    for module in linear:
        fan_in, fan_out = module.in_features, module.out_features
        weight = mlp.parameters[start : start + fan_in * fan_out].view(fan_in, fan_out)
        bias = mlp.parameters[start + fan_in * fan_out :][:fan_out]
        module.weight.data, module.bias.data = weight.t().clone(), bias.clone()
        start += (fan_in + 1) * fan_out
    return torch.nn.Sequential(*modules)


def flat_gradient(modules: torch.nn.Sequential) -> torch.Tensor:
    return torch.cat([p.grad.t().flatten() if p.dim() == 2 else p.grad for p in modules.parameters()])


def test_output_and_gradients_equal_autograd():
    inputs = torch.randn(7, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    mlp = network()
    modules = reference(mlp)
    output = modules(inputs)
    output.square().sum().backward()

    activations = mlp.forward(inputs.detach())
    torch.testing.assert_close(activations[-1], output.detach())
    mlp.backward(activations, 2 * activations[-1])
    torch.testing.assert_close(mlp.gradient, flat_gradient(modules))
    torch.testing.assert_close(mlp.input_gradient(activations, 2 * activations[-1]), inputs.grad)


def test_adam_equals_torch_adam():
    mlp = network()
    parameter = mlp.parameters.clone().requires_grad_()
    ours, theirs = Adam(mlp, 0.01), torch.optim.Adam([parameter], lr=0.01)
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        mlp.gradient.normal_(generator=generator)
        parameter.grad = mlp.gradient.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(mlp.parameters, parameter.detach())


def test_first_adam_step_is_learning_rate():
    """Both moments are unbiased after one step, so each parameter moves by the learning rate against its sign."""
    mlp = network()
    before = mlp.parameters.clone()
    mlp.gradient.copy_(torch.where(before > 0, 2.0, -3.0))
    Adam(mlp, 0.1).step()
    torch.testing.assert_close(mlp.parameters, before - 0.1 * mlp.gradient.sign())


def test_initial_parameters_are_uniform_in_fan_in_range():
    mlp = MLP((4, 500, 1), torch.Generator().manual_seed(0))
    first, last = mlp.parameters[:2500], mlp.parameters[2500:]
    assert 0.49 < first.abs().max().item() <= 0.5
    assert 0.9 / 500**0.5 < last.abs().max().item() <= 1 / 500**0.5


def test_copy_is_independent():
    mlp = network()
    twin = mlp.copy()
    mlp.parameters.zero_()
    assert torch.equal(twin.parameters, network().parameters)


def test_loading_state_of_other_size_raises():
    with pytest.raises(ValueError, match="where"):
        network().load_state_dict(MLP((3, 2), torch.Generator()).state_dict())
