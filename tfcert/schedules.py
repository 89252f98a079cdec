"""Schedules of certified training: numbers as functions of the optimizer's steps."""

from tfcert.training import Constant, Ramp, Schedule

__all__ = ["Constant", "Ramp", "Schedule"]
