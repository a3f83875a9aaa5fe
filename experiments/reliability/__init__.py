"""Campaigns against runs: damage, kills, faults of disks and hostile input."""
