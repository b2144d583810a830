"""What trains, speaks and scores: plain torch, PEFT and DeepSpeed, with no Ray in it."""
