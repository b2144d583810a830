"""A variant that speaks: prompts in, clips out."""
