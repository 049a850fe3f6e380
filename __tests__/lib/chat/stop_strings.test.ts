import fc from 'fast-check';
import { StopStrings } from '../../../lib/chat';

function run(stops: readonly string[], pieces: readonly string[]): { text: string; stopped: boolean } {
  const filter = new StopStrings(stops);
  let text = '';
  for (const piece of pieces) text += filter.push(piece);
  return { text: text + filter.end(), stopped: filter.stopped };
}

describe('stop strings', () => {
  it('cuts before one that lies across pieces, and gives nothing out after it', () => {
    expect(run(['STOP'], ['a S', 'TO', 'P b', ' c'])).toEqual({ text: 'a ', stopped: true });
  });

  it('gives back what only began like one', () => {
    expect(run(['STOP'], ['a ST', 'OO', ' ST'])).toEqual({ text: 'a STOO ST', stopped: false });
  });

  it('takes the one that comes first in the text, not in the list', () => {
    expect(run(['late', 'ear'], ['so early, so late'])).toEqual({ text: 'so ', stopped: true });
  });

  it('holds back no more than could begin one', () => {
    const filter = new StopStrings(['</end>']);
    expect(filter.push('x < y </')).toBe('x < y ');
    expect(filter.push('b')).toBe('</b');
  });

  it('an empty string is refused: it could mean to stop nothing, or everything', () => {
    expect(() => run([''], ['a', 'b'])).toThrow('stop');
  });

  it('cuts the same wherever the pieces begin and end', () => {
    const letter = fc.constantFrom('a', 'b', 'c');
    const word = fc.string({ unit: letter, minLength: 1, maxLength: 3 });
    fc.assert(
      fc.property(fc.array(fc.string({ unit: letter, maxLength: 4 })), fc.array(word, { minLength: 1, maxLength: 3 }), (pieces, stops) => {
        const whole = pieces.join('');
        const first = Math.min(...stops.map((stop) => whole.indexOf(stop)).filter((at) => at >= 0));
        const expected = Number.isFinite(first) ? { text: whole.slice(0, first), stopped: true } : { text: whole, stopped: false };
        expect(run(stops, pieces)).toEqual(expected);
      }),
    );
  });
});
