"""What trains, speaks and scores: plain torch, PEFT and DeepSpeed, with no Ray in it.

Every process that does so imports this package before torch, be it a host, a rank, a scorer or a
command. So this is the one place where matrix products are made independent of their neighbours.
"""

from jobs.mkl import set_strict_mode

set_strict_mode()
