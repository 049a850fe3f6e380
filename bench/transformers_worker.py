"""The other end of `small_worker.ts` in Python: models of transformers that answer tasks, a line of JSON each way. Arguments: directory, threads, dtypes."""

import json
import sys

import torch
import transformers


def serve(model_class: type, run) -> None:
    """Loads the directory once for each dtype; `run(model, ids, new_tokens)` answers a task."""
    directory, threads, *dtypes = sys.argv[1:]
    torch.set_num_threads(int(threads))
    transformers.utils.logging.disable_progress_bar()
    models = {dtype: model_class.from_pretrained(directory, dtype=getattr(torch, dtype)).eval() for dtype in dtypes}
    weights = {name: sum(one.numel() * one.element_size() for one in model.parameters()) for name, model in models.items()}
    print(json.dumps({"version": f"transformers {transformers.__version__}, torch {torch.__version__}", "models": weights}), flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        print(json.dumps(run(models[task["model"]], task["ids"], task["newTokens"])), flush=True)
