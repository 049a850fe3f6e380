/** One part of a message, as transformers' chat templates have it. */
export type ChatPart = { readonly type: 'image' } | { readonly type: 'text'; readonly text: string };

/** One turn. A string may hold the image token where images belong. */
export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string | readonly ChatPart[];
}

/** The text of the last message of the user, images left out. */
export function lastUserText(messages: readonly ChatMessage[]): string | undefined {
  const content = messages.filter(({ role }) => role === 'user').at(-1)?.content;
  if (content === undefined || typeof content === 'string') return content;
  return content.flatMap((part) => (part.type === 'text' ? [part.text] : [])).join('\n');
}
