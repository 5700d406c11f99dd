"""What is broken, and why something is empty: environment, workspace, data, each finding one sentence and a remedy."""

from habitue.doctor.examine import examine
from habitue.doctor.finding import Finding

__all__ = ["Finding", "examine"]
