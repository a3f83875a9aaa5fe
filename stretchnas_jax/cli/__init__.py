"""Command lines: flags, configs, log lines, errors in one line."""
