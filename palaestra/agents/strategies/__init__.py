"""Inference-time strategies: policies around a policy that spend several model calls on one answer, within a budget."""
