"""Devices, memory, threads that read ahead, and the end of a process."""
