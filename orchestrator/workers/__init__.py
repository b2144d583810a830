"""What runs in Ray workers beside the hosts: preparation, scoring, the data report."""
