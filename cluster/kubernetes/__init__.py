"""A KubeRay RayJob and its pods."""
