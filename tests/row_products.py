"""What torch's matrix products do on this machine, found without any of voxsweep's code."""

import torch


def rows_are_independent() -> bool:
    """Whether a row of a product in fp32 is the same to the bit whichever rows are beside it."""
    draw = torch.Generator().manual_seed(0)
    for inner, outer in ((64, 8), (64, 128), (128, 64), (896, 64), (64, 1100)):
        weight = torch.randn(inner, outer, generator=draw)
        for rows in range(2, 40):
            x = torch.randn(rows, inner, generator=draw)
            whole, back = x @ weight, (x @ weight) @ weight.t()
            for cut in (1, rows // 2, rows - 1):
                parts = [x[:cut] @ weight, x[cut:] @ weight]
                if not torch.equal(torch.cat(parts), whole):
                    return False
                if not torch.equal(torch.cat([part @ weight.t() for part in parts]), back):
                    return False
    return True
