"""Data: folders of images, read without ever crashing on one."""
