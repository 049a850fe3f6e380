"""Worker of `bench/small.ts`: transformers on torch (CPU). Arguments: directory, threads, dtypes. The protocol is in `small_worker.ts`."""

import time

import torch
from transformers import AutoModelForCausalLM

from transformers_worker import serve


@torch.inference_mode()
def run(model, ids: list[int], count: int) -> dict:
    begun = time.perf_counter()
    output = model(torch.tensor([ids]), use_cache=True, logits_to_keep=1)
    written = [int(output.logits[0, -1].argmax())]
    first = time.perf_counter() - begun
    while len(written) < count:
        output = model(torch.tensor([[written[-1]]]), past_key_values=output.past_key_values, use_cache=True)
        written.append(int(output.logits[0, -1].argmax()))
    rest = time.perf_counter() - begun - first
    return {"first": 1000 * first, "rest": 1000 * rest, "ids": written}


if __name__ == "__main__":
    serve(AutoModelForCausalLM, run)
