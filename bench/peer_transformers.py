"""Worker of `bench/7b.ts`: the same checkpoint in transformers on torch (CPU). Arguments: directory, threads, dtypes. The protocol is in `small_worker.ts`;
besides `first`, the answer has `vision`, the milliseconds of tower and projector, and `head`, those of the head for one row."""

import time

import torch
from transformers import LlavaForConditionalGeneration

from transformers_worker import serve

SIDE = 336


def milliseconds(begun: float) -> float:
    return 1000 * (time.perf_counter() - begun)


@torch.inference_mode()
def run(model, ids: list[int], count: int) -> dict:
    """Continues a prompt in which the image token stands once for each visual token. The features of an image are cut to as many as there are."""
    pixels = torch.randn([1, 3, SIDE, SIDE], generator=torch.Generator().manual_seed(1), dtype=torch.float32).to(model.dtype)
    prompt = torch.tensor([ids])
    places = prompt == model.config.image_token_id
    begun = time.perf_counter()
    features = torch.cat(list(model.get_image_features(pixels).pooler_output))[: int(places.sum())]
    vision = milliseconds(begun)
    states = model.get_input_embeddings()(prompt).masked_scatter(places.unsqueeze(-1), features)
    output = model(inputs_embeds=states, use_cache=True, logits_to_keep=1)
    written = [int(output.logits[0, -1].argmax())]
    first = milliseconds(begun)
    while len(written) < count:
        cache = output["cache"] if "cache" in output else output.past_key_values
        keyword = "cache" if "cache" in output else "past_key_values"
        output = model(input_ids=torch.tensor([[written[-1]]]), use_cache=True, **{keyword: cache})
        written.append(int(output.logits[0, -1].argmax()))
    rest = milliseconds(begun) - first
    return {"first": first, "rest": rest, "ids": written, "vision": vision, "head": head(model)}


def head(model) -> float:
    row = torch.randn([1, model.config.text_config.hidden_size]).to(model.dtype)
    lowest = float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        model.lm_head(row)
        lowest = min(lowest, milliseconds(begun))
    return lowest


if __name__ == "__main__":
    serve(LlavaForConditionalGeneration, run)
