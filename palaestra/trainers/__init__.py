"""Trainers: samples, objectives (through TRL), the recipe loop, evaluation, and one short file a method."""
