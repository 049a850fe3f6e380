/** Stands at the end of a text whose last character is not whole yet. */
const INCOMPLETE = '\ufffd';

/**
 * Turns ids into text one by one; the pieces together are the text of all ids. A character that several tokens spell is held back until it is whole.
 *
 * A tokenizer's decoder may treat the first token of a text in its own way (Llama drops its leading space), and a later token may join an earlier one,
 * so a piece is what a few tokens of context gain by the new ones, not what the new ones say alone.
 */
export class Detokenizer {
  private readonly ids: number[] = [];
  /** Where the context begins, and where the text that was given out ends. */
  private contextStart = 0;
  private given = 0;

  /** @param decode ids -> text, special tokens left out */
  constructor(private readonly decode: (ids: number[]) => string) {}

  push(id: number): string {
    this.ids.push(id);
    const { before, after } = this.texts();
    if (after.length <= before.length || after.endsWith(INCOMPLETE)) return '';
    this.contextStart = this.given;
    this.given = this.ids.length;
    return after.slice(before.length);
  }

  /** What was held back, once no more comes. */
  end(): string {
    const { before, after } = this.texts();
    this.given = this.ids.length;
    return after.slice(before.length);
  }

  private texts(): { before: string; after: string } {
    return {
      before: this.decode(this.ids.slice(this.contextStart, this.given)),
      after: this.decode(this.ids.slice(this.contextStart)),
    };
  }
}
