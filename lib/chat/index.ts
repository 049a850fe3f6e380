export { Detokenizer } from './detokenizer';
export type { ChatMessage, ChatPart } from './messages';
export { ChatProcessor, loadChatProcessor } from './processor';
export { StopStrings } from './stop_strings';
