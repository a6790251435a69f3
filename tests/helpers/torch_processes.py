"""The function that each process of torch.distributed runs in tests of loaders."""

from __future__ import annotations


def train(rank, world, sampler, table, port, folder):
    """One epoch in which all ranks meet after each batch; the numbers of the crops go to FOLDER/RANK.pt."""
    import torch

    from ndzarr.torch.crops import CropDataset
    from ndzarr.torch.loader import loader

    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    try:
        seen = []
        for batch in loader(CropDataset(sampler, table, dtype=torch.float32), 8, seed=5):
            total = batch["image"].sum()
            torch.distributed.all_reduce(total)  # a rank with fewer batches would leave the other waiting
            seen.append(batch["index"].tolist())
        torch.save(seen, f"{folder}/{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()
