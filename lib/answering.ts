import { PromptError } from '../layers/errors';
import { type Answer, type AskOptions, asList, type WrittenToken } from './answer';
import { type ChatProcessor, StopStrings } from './chat';
import { rankChoices } from './choices';
import type { StreamedToken } from './generate';
import type { Grammars } from './grammar/grammar';
import { checkedSchema } from './grammar/json_schema';
import { textLogprobs } from './text_logprobs';
import type { TokenModel } from './token_model';
import type { TokenRequest } from './token_request';

/** Writes an answer token by token, in pieces of text; the generator returns it whole. */
export async function* writeAnswer(
  model: TokenModel,
  chat: ChatProcessor,
  grammars: Grammars,
  request: TokenRequest,
  options: AskOptions,
): AsyncGenerator<string, Answer, undefined> {
  const decoder = chat.decoder();
  const stop = new StopStrings(asList(options.stop));
  const grammar = options.schema && (await grammars.begin(options.schema));
  const processors = asList(options.logitsProcessor);
  const tokens = model.tokens([request], grammar ? { ...options, logitsProcessor: [...processors, grammar.processor] } : options);
  let text = '';
  let stopped = false;
  try {
    for (;;) {
      const step = await tokens.next(stopped);
      if (!step.done) {
        options.onToken?.(writtenToken(step.value, chat));
        await grammar?.accept(step.value.id);
      }
      const piece = step.done ? stop.push(decoder.end()) + stop.end() : stop.push(decoder.push(step.value.id));
      if (piece !== '') {
        text += piece;
        yield piece;
      }
      if (step.done) {
        const [result] = step.value;
        if (!result) throw new PromptError('NO_ANSWER', 'The model gave no answer.');
        const { logprobs, ...rest } = result;
        const finishReason = stop.stopped ? 'stop' : rest.finishReason; // a stop string may be whole only with what the decoder held back
        const withText = logprobs && { logprobs: logprobs.map((one) => textLogprobs(one, chat.tokenBytes)) };
        return { ...rest, ...withText, finishReason, text };
      }
      stopped = stop.stopped || grammar?.complete === true;
    }
  } finally {
    await tokens.return([]);
    grammar?.dispose();
  }
}

/** What says how text is drawn means nothing where none is drawn. */
const NOT_WITH_CHOICES = [
  'temperature',
  'topP',
  'topK',
  'seed',
  'maxNewTokens',
  'minNewTokens',
  'stop',
  'logprobs',
  'logitsProcessor',
  'schema',
  'onToken',
] as const;

/** @throws PromptError `BAD_CHOICES`, `BAD_SCHEMA`, `SCHEMA_UNSUPPORTED`, `OPTION_CONFLICT` */
export function checkAnswerOptions(options: AskOptions): void {
  const { choices } = options;
  if (options.schema !== undefined) checkedSchema(options.schema);
  if (options.schema !== undefined && options.stop !== undefined) {
    throw new PromptError('OPTION_CONFLICT', 'A stop string could cut an answer by "schema" before it is whole. Leave "schema" or "stop" out.');
  }
  if (choices === undefined) return;
  if (!Array.isArray(choices) || choices.length === 0) throw new PromptError('BAD_CHOICES', 'Option "choices" has no choice; give one text or more.');
  for (const [i, choice] of choices.entries()) {
    if (typeof choice !== 'string' || choice.trim() === '') {
      throw new PromptError('BAD_CHOICES', `Choice ${i} of ${choices.length} is ${JSON.stringify(choice)}; each must be a text.`);
    }
    const before = choices.findIndex((other) => other.trim() === choice.trim());
    if (before < i) throw new PromptError('BAD_CHOICES', `Choices ${before} and ${i} are both "${choice.trim()}"; give each once.`);
  }
  const other = NOT_WITH_CHOICES.find((name) => options[name] !== undefined);
  if (other !== undefined) {
    throw new PromptError(
      'OPTION_CONFLICT',
      `Option "${other}" is for answers that are written; with "choices" nothing is drawn. Leave one of the two out.`,
    );
  }
}

/** Answers with the likeliest of some texts; `ids` are theirs behind the prompt. */
export async function* chooseAnswer(
  model: TokenModel,
  request: TokenRequest,
  ids: readonly Int32Array[],
  { choices = [], prune, tap, signal }: AskOptions,
): AsyncGenerator<string, Answer, undefined> {
  const { scores, ...rest } = await model.score(request, ids, { prune, tap, signal });
  const ranked = rankChoices(choices, scores);
  const [best] = ranked;
  if (!best) throw new PromptError('NO_ANSWER', 'The model gave no answer.');
  yield best.text;
  return { ...rest, text: best.text, ids: best.ids, finishReason: 'stop', choices: ranked };
}

function writtenToken({ id, logprobs }: StreamedToken, { tokenBytes }: ChatProcessor): WrittenToken {
  return logprobs ? { id, logprobs: textLogprobs(logprobs, tokenBytes) } : { id };
}
