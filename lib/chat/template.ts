import { Template } from '@huggingface/jinja';
import { ConfigError, PromptError } from '../../layers/errors';
import { type ByteDirectory, readJsonIfPresent, readText } from '../../weights/byte_directory';
import type { ChatMessage, ChatPart } from './messages';

/**
 * The turns of vicuna v1 without its system sentence, for directories that bring no template of their own: `USER: <image>\n{question} ASSISTANT:`,
 * as llava-hf's model cards have it.
 */
const VICUNA: string = [
  "{% for message in messages %}{% if message.role != 'system' %}{{ message.role.upper() + ': ' }}{% endif %}",
  "{% for part in message.content %}{% if part.type == 'image' %}{{ image_token + '\\n' }}{% endif %}{% endfor %}",
  "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}",
  "{{ eos_token if message.role == 'assistant' else ' ' }}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}",
].join('');

/** Special tokens that templates name. */
export interface TemplateTokens {
  readonly bos_token: string;
  readonly eos_token: string;
  readonly image_token: string;
}

/** A checkpoint's chat template. */
export class ChatTemplate {
  private readonly template: Template;
  /** Whether it takes a message's content as parts, as LLaVA's do, or as one string, as language models' do. */
  private readonly takesParts: boolean;
  /** Whether it is not the checkpoint's own. */
  readonly isDefault: boolean;

  /** @throws ConfigError `CHAT_TEMPLATE` */
  constructor(
    source: string,
    private readonly name: string,
    private readonly tokens: TemplateTokens,
  ) {
    try {
      this.template = new Template(source);
    } catch (cause) {
      throw new ConfigError('CHAT_TEMPLATE', `${name} is no chat template that can be read: ${String(cause)}.`, { cause });
    }
    this.takesParts = /['"]image['"]/.test(source);
    this.isDefault = source === VICUNA;
  }

  /**
   * The prompt, ending in the cue for the assistant's answer, or in that answer where it is given.
   * @throws PromptError `CHAT_TEMPLATE_REFUSED` for what the template does not take
   */
  render(conversation: readonly ChatMessage[], answer?: ChatMessage): string {
    const messages = answer ? [...conversation, answer] : conversation;
    const content = (message: ChatMessage) => (this.takesParts ? parts(message) : joined(message, this.tokens.image_token));
    try {
      return this.template.render({
        ...this.tokens,
        messages: messages.map((message) => ({ role: message.role, content: content(message) })),
        add_generation_prompt: answer === undefined,
      });
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new PromptError(
        'CHAT_TEMPLATE_REFUSED',
        `${this.name} does not take these messages (roles ${messages.map(({ role }) => role).join(', ')}): ${reason}.`,
        { cause },
      );
    }
  }
}

function parts({ content }: ChatMessage): readonly ChatPart[] {
  return typeof content === 'string' ? [{ type: 'text', text: content }] : content;
}

function joined({ content }: ChatMessage, imageToken: string): string {
  return typeof content === 'string' ? content : content.map((part) => (part.type === 'image' ? `${imageToken}\n` : part.text)).join('');
}

/** Finds the template as transformers does: chat_template.jinja, chat_template.json, tokenizer_config.json; else vicuna's. */
export async function loadChatTemplate(
  directory: ByteDirectory,
  tokenizerConfig: Readonly<Record<string, unknown>>,
  tokens: TemplateTokens,
  signal?: AbortSignal,
): Promise<ChatTemplate> {
  const named = (file: string) => `${directory.name}/${file}`;
  if (await directory.has('chat_template.jinja', signal)) {
    return new ChatTemplate(await readText(directory, 'chat_template.jinja', signal), named('chat_template.jinja'), tokens);
  }
  const json = (await readJsonIfPresent(directory, 'chat_template.json', signal)) as { chat_template?: unknown } | undefined;
  const found = sourceIn(json?.chat_template);
  if (found !== undefined) return new ChatTemplate(found, named('chat_template.json'), tokens);
  const inConfig = sourceIn(tokenizerConfig.chat_template);
  if (inConfig !== undefined) return new ChatTemplate(inConfig, named('tokenizer_config.json'), tokens);
  return new ChatTemplate(VICUNA, 'the default chat template', tokens);
}

/** One template, or several by name, of which `default` is meant. */
function sourceIn(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const list = value as { name?: unknown; template?: unknown }[];
  const chosen = list.find(({ name }) => name === 'default') ?? list[0];
  return typeof chosen?.template === 'string' ? chosen.template : undefined;
}
