"""A sweep as a Ray job, and as a KubeRay RayJob."""
