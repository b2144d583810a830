"""How clean and how varied the training clips of each speaker are; a report, never a gate."""
