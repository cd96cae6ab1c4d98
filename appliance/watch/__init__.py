"""Tells the audit log what the kernel and systemd saw: refused programs, killed processes, corrupted blocks, sticks."""
