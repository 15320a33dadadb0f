"""Engines that run networks with policies, their comparison, and the choice of one."""
