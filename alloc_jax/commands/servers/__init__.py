"""Commands that ask a server for samples, or are one."""
