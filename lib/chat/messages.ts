/** One part of a message, as transformers' chat templates have it. */
export type ChatPart = { readonly type: 'image' } | { readonly type: 'text'; readonly text: string };

/** One turn. A string may hold the image token where images belong. */
export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string | readonly ChatPart[];
}
