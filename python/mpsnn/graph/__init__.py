"""Compiled graphs: training, inference, and their steps."""
