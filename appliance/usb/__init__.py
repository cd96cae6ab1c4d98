"""Lets a USB device in when all that it can do is among the classes that the profile names."""
