"""Evaluation of policies: engines that run quantized networks, evaluators, and stores of evaluations."""
