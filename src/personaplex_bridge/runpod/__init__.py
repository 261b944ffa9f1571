"""RunPod: renting the GPU that the model server runs on, and knowing what it costs."""
