"""Networks for a task, ready to train."""

from __future__ import annotations

from mpsnn.models.activity import ActivityClassifier, activity_classifier

__all__ = ["ActivityClassifier", "activity_classifier"]
