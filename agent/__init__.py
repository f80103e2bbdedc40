"""Exeunt: a monitor-and-dispatch system for managed service providers."""
