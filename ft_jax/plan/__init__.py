"""What a training step costs, from its compiled program: nothing here needs the accelerator."""
