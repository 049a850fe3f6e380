import { createInterface } from 'node:readline';
import type { Answer } from '../answer';
import type { Chat, ChatOptions } from '../conversation';
import type { VisionLanguageModel } from '../model';
import { failure } from './failure';
import { print, printJsonLine } from './output';

export interface ChatStart {
  readonly images: readonly string[];
  readonly question: string | undefined;
  readonly options: ChatOptions;
  readonly json: boolean;
}

const HELP = 'A line is a question. /image FILE... adds images to the next question, /exit or Ctrl-D ends, Ctrl-C stops an answer.\n';

/**
 * Questions from stdin, a line each, until it ends. At a terminal a turn that fails or is stopped leaves the chat as it was and the next may follow;
 * where questions are piped in, the first failure ends the chat.
 */
export async function chatFromLines(model: VisionLanguageModel, start: ChatStart, signal: AbortSignal): Promise<void> {
  const terminal = process.stdin.isTTY === true;
  const chat = model.chat(start.options);
  const turns = new Turns(chat, start.json, signal);
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal });
  const typed = lines[Symbol.asyncIterator](); // from now on: lines that come during the first answer wait in it
  const close = () => lines.close();
  signal.addEventListener('abort', close);
  lines.on('SIGINT', () => turns.stop() || process.kill(process.pid, 'SIGINT'));
  lines.setPrompt(terminal ? '> ' : '');
  try {
    let images = [...start.images];
    if (terminal) process.stderr.write(HELP);
    const ask = async (question: string) => {
      const shown = images;
      images = [];
      try {
        await turns.take(question, shown);
      } catch (error) {
        if (!terminal || signal.aborted) throw error;
        const dropped = shown.length > 0 ? ' The images of this turn were dropped: add them again.' : '';
        process.stderr.write(`${turns.stopped ? '(stopped)' : failure(error).message}${dropped}\n`);
      }
    };
    if (start.question !== undefined) await ask(start.question);
    lines.prompt();
    for await (const line of typed) {
      const [command, ...words] = line.trim().split(/\s+/);
      if (command === '/exit') break;
      if (command === '/image') images.push(...words);
      else if (command === '/help') process.stderr.write(HELP);
      else if (line.trim() !== '') await ask(line.trim());
      lines.prompt();
    }
    signal.throwIfAborted();
  } finally {
    signal.removeEventListener('abort', close);
    lines.close();
    chat.dispose();
  }
}

/** Prints each answer as it is written, or as a line of JSON. */
class Turns {
  private running: AbortController | undefined;

  constructor(
    private readonly chat: Chat,
    private readonly json: boolean,
    private readonly signal: AbortSignal,
  ) {}

  /** Whether the last turn was ended by `stop`. */
  stopped = false;

  /** Stops the answer that is being written; false when there is none. */
  stop(): boolean {
    if (!this.running) return false;
    this.stopped = true;
    this.running.abort();
    return true;
  }

  async take(question: string, images: readonly string[]): Promise<void> {
    this.running = new AbortController();
    this.stopped = false;
    const signal = AbortSignal.any([this.signal, this.running.signal]);
    try {
      const stream = this.chat.stream(question, { images, signal });
      let step = await stream.next();
      for (; !step.done; step = await stream.next()) {
        if (!this.json) print(step.value, this.signal);
      }
      const { text, ...rest } = step.value;
      if (this.json) printJsonLine({ question, text, images, ...rest }, this.signal);
      else print('\n', this.signal);
      if (process.stderr.isTTY) process.stderr.write(`  ${described(step.value)}\n`);
    } finally {
      this.running = undefined;
    }
  }
}

function described({ usage, timing }: Answer): string {
  const { visualTokens, visualTokensBefore, promptTokens, cachedTokens } = usage;
  const visual = visualTokensBefore > 0 ? `${visualTokens} of ${visualTokensBefore} visual tokens, ` : '';
  return `(${visual}${cachedTokens} of ${promptTokens} tokens from the cache, first token after ${timing.firstToken.toFixed(0)} ms)`;
}
