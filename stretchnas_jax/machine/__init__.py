"""Devices, processes, files, caches and memory of the machine."""
