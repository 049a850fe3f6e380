"""Worker of `bench/small.ts`: transformers on torch (CPU). Arguments: directory, threads, dtypes. The protocol is in `small_worker.ts`."""

import json
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM


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


def main() -> None:
    directory, threads, *dtypes = sys.argv[1:]
    torch.set_num_threads(int(threads))
    models = {dtype: AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval() for dtype in dtypes}
    weights = {name: sum(one.numel() * one.element_size() for one in model.parameters()) for name, model in models.items()}
    print(json.dumps({"version": f"transformers {transformers.__version__}, torch {torch.__version__}", "models": weights}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(run(models[task["model"]], task["ids"], task["newTokens"])), flush=True)


if __name__ == "__main__":
    main()
