import type { Tokenizer } from '@huggingface/tokenizers';
import { ConfigError, PromptError } from '../../layers/errors';
import type { ByteDirectory } from '../../weights/byte_directory';
import type { ModelConfig } from '../config';
import { Detokenizer } from './detokenizer';
import type { ChatMessage } from './messages';
import { type ChatTemplate, loadChatTemplate } from './template';
import { TokenBytes } from './token_bytes';
import { loadTokenizer } from './tokenizer';

/** Characters that a token is taken to stand for where a vocabulary has short ones only: a word that it does not know is one token too. */
const SHORTEST_LONGEST = 32;

/** Text to ids and back, by a checkpoint's own tokenizer and chat template. */
export class ChatProcessor {
  /** The bytes that tokens stand for. */
  readonly tokenBytes: TokenBytes;
  private readonly specials: readonly string[];
  private readonly longestToken: number;

  constructor(
    readonly tokenizer: Tokenizer,
    private readonly template: ChatTemplate,
    private readonly bosToken: string,
    /** The image token's text and id; absent in a language model alone. */
    readonly imageToken: { readonly text: string; readonly id: number } | undefined,
    /** What the model's context holds. */
    private readonly contextTokens: number,
  ) {
    this.tokenBytes = new TokenBytes(tokenizer);
    this.longestToken = SHORTEST_LONGEST;
    for (const token of tokenizer.get_vocab().keys()) this.longestToken = Math.max(this.longestToken, token.length);
    this.specials = [...tokenizer.get_added_tokens_decoder().values()].filter(({ special }) => special).map(({ content }) => content);
  }

  /**
   * A conversation as ids, with one image token an image.
   *
   * @param images how many images the call has
   * @throws PromptError `IMAGE_TOKEN_COUNT` when the messages have another number of places for images, `SPECIAL_TOKEN_IN_TEXT`, `EMPTY_PROMPT`,
   * `CONTEXT_OVERFLOW` for a text that no tokens could make short enough
   */
  encode(messages: readonly ChatMessage[], images: number): Int32Array {
    if (messages.length === 0) throw new PromptError('EMPTY_PROMPT', 'There is no message. Give a question.');
    const placed = messages.reduce((sum, message) => sum + this.checkedPlaces(message), 0);
    if (placed !== images) {
      const token = this.imageToken?.text ?? '<image>';
      throw new PromptError(
        'IMAGE_TOKEN_COUNT',
        `The messages have ${placed} place(s) for an image, and ${images} image(s) are given. Use one "${token}" (or one {type: 'image'}) for each image.`,
      );
    }
    const ids = this.encodePrompt(this.template.render(messages));
    const found = ids.filter((id) => id === this.imageToken?.id).length;
    if (found !== images) {
      throw new PromptError(
        'IMAGE_TOKEN_COUNT',
        `The chat template wrote ${found} image token(s) for ${images} image(s): it does not fit this tokenizer.`,
      );
    }
    return ids;
  }

  /**
   * Answers as ids, one after another: what `encode` would have behind these messages, up to the end of the answer, if the assistant had given it. Spaces
   * and the like that the template puts before an answer belong to it.
   *
   * @throws PromptError `BAD_CHOICES` for an answer of which the tokenizer makes special tokens, or which it joins with the end of the prompt, so that the
   * model, which goes on from the prompt's last token, could never write it; what `encode` throws
   */
  encodeAnswers(messages: readonly ChatMessage[], images: number, answers: readonly string[]): Int32Array[] {
    const promptIds = this.encode(messages, images);
    const prompt = this.template.render(messages);
    return answers.map((answer) => {
      const text = answer.trim(); // spaces around it are the template's
      const turn: ChatMessage = { role: 'assistant', content: [{ type: 'text', text }] };
      this.checkedPlaces(turn);
      const whole = this.template.render(messages, turn);
      const end = whole.startsWith(prompt) ? whole.indexOf(text, prompt.length) + text.length : 0;
      const ids = this.encodePrompt(whole.slice(0, end));
      if (end <= prompt.length || promptIds.some((id, i) => id !== ids[i]) || ids.length === promptIds.length) {
        throw new PromptError(
          'BAD_CHOICES',
          `The choice "${answer}" does not follow the prompt as tokens of its own, by this chat template and tokenizer. Word it otherwise.`,
        );
      }
      const own = ids.subarray(promptIds.length);
      const special = own.find((id) => this.tokenBytes.isSpecial(id));
      if (special !== undefined) {
        throw new PromptError(
          'BAD_CHOICES',
          `The choice "${answer}" has words for which the tokenizer has "${this.tokenizer.id_to_token(special)}" only. Word it otherwise.`,
        );
      }
      return own;
    });
  }

  /** Ids of a plain text, without template and special tokens. */
  encodeText(text: string): Int32Array {
    return Int32Array.from(this.tokenizer.encode(text, { add_special_tokens: false }).ids);
  }

  /** Text of ids, special tokens left out, and ids without a token: a model's head may have more rows than the tokenizer has tokens. */
  decode(ids: ArrayLike<number>): string {
    const known = Array.from(ids).filter((id) => this.tokenizer.id_to_token(id) !== undefined);
    return known.length === 0 ? '' : this.tokenizer.decode(known, { skip_special_tokens: true });
  }

  /** Turns ids into text as they come. */
  decoder(): Detokenizer {
    return new Detokenizer((ids) => this.decode(ids));
  }

  /** A text that can't fit, whatever its tokens are, is refused before any are made: that takes seconds for a megabyte, which nothing interrupts. */
  private checkLength(prompt: string): void {
    const most = this.contextTokens * this.longestToken;
    if (prompt.length <= most) return;
    throw new PromptError(
      'CONTEXT_OVERFLOW',
      `The prompt has ${prompt.length} characters, but the model's context holds ${this.contextTokens} tokens of ${this.longestToken} characters at most. Shorten the text.`,
    );
  }

  /**
   * As transformers: its processors add the first token unless the template wrote it; a language model's own template is taken to write all there is.
   */
  private encodePrompt(prompt: string): Int32Array {
    this.checkLength(prompt);
    const written = this.bosToken !== '' && prompt.startsWith(this.bosToken);
    const whole = written || (this.imageToken === undefined && !this.template.isDefault);
    return Int32Array.from(this.tokenizer.encode(prompt, { add_special_tokens: !whole }).ids);
  }

  /** Places for images in a message. A special token in a user's text would be read as one: it is refused. */
  private checkedPlaces({ content }: ChatMessage): number {
    const parts = typeof content === 'string' ? [{ type: 'text' as const, text: content }] : content;
    if (!Array.isArray(parts as unknown))
      throw new PromptError('EMPTY_PROMPT', `The content of a message is ${String(content)}. Give text, or parts.`);
    let places = 0;
    for (const part of parts) {
      if (part.type === 'image') {
        places++;
        continue;
      }
      const pieces = this.imageToken === undefined ? [part.text] : part.text.split(this.imageToken.text);
      places += pieces.length - 1;
      const special = this.specials.find((one) => pieces.some((piece) => piece.includes(one)));
      if (special !== undefined) {
        throw new PromptError(
          'SPECIAL_TOKEN_IN_TEXT',
          `The text contains "${special}", which this tokenizer reads as a special token and not as text. Leave it out or write it otherwise.`,
        );
      }
    }
    return places;
  }
}

/**
 * Reads tokenizer.json, tokenizer_config.json and the chat template; undefined where there is no tokenizer.json (then the model speaks ids only).
 * @throws ConfigError `TOKENIZER`, `IMAGE_TOKEN_UNKNOWN`, `CHAT_TEMPLATE`
 */
export async function loadChatProcessor(directory: ByteDirectory, config: ModelConfig, signal?: AbortSignal): Promise<ChatProcessor | undefined> {
  const loaded = await loadTokenizer(directory, signal);
  if (!loaded) return undefined;
  const { tokenizer, settings } = loaded;
  const bos = tokenText(settings.bos_token);
  const imageToken = config.model_type === 'llava' ? imageTokenOf(tokenizer, config.image_token_index, directory.name) : undefined;
  const tokens = { bos_token: bos, eos_token: tokenText(settings.eos_token), image_token: imageToken?.text ?? '<image>' };
  const template = await loadChatTemplate(directory, settings, tokens, signal);
  return new ChatProcessor(tokenizer, template, bos, imageToken, config.text_config.max_position_embeddings);
}

function imageTokenOf(tokenizer: Tokenizer, id: number, directory: string): { text: string; id: number } {
  const text = tokenizer.id_to_token(id);
  if (text !== undefined && tokenizer.token_to_id(text) === id) return { text, id };
  throw new ConfigError(
    'IMAGE_TOKEN_UNKNOWN',
    `${directory}: config.json says that image_token_index is ${id}, but tokenizer.json has no token of that id. Add it, or correct the index.`,
  );
}

/** `"<s>"` or `{"content": "<s>"}`. */
function tokenText(value: unknown): string {
  if (typeof value === 'string') return value;
  const content = (value as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : '';
}
