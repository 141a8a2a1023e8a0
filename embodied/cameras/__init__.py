"""Cameras of a real robot, by OpenCV: a device, a file or a URL, and always its newest frame with its age."""
