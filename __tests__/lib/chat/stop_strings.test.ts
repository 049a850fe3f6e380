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

  it.each<[string, readonly string[], readonly string[], string]>([
    ['one inside another', ['abc', 'b'], ['xab', 'c'], 'xa'],
    ['one that begins another', ['ab', 'abc'], ['xa', 'bc'], 'x'],
    ['one that ends another', ['c', 'abc'], ['xab', 'c'], 'x'],
    ['overlapping ones', ['aba', 'bab'], ['xb', 'aba'], 'x'],
    ['one at the very start', ['ab'], ['a', 'b'], ''],
    ['one that begins with its own end', ['aab'], ['aa', 'ab'], 'a'],
    ['one of characters beyond 16 bits', ['🙂!'], ['a🙂🙂', '!'], 'a🙂'],
  ])('%s: the same in pieces and at once', (_what, stops, pieces, text) => {
    expect(run(stops, pieces)).toEqual({ text, stopped: true });
    expect(run(stops, [pieces.join('')])).toEqual({ text, stopped: true });
    expect(run(stops, Array.from(pieces.join('')))).toEqual({ text, stopped: true });
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
        const found = stops.map((stop) => ({ at: whole.indexOf(stop), end: whole.indexOf(stop) + stop.length })).filter(({ at }) => at >= 0);
        const [first] = found.sort((a, b) => a.end - b.end || a.at - b.at);
        const expected = first ? { text: whole.slice(0, first.at), stopped: true } : { text: whole, stopped: false };
        expect(run(stops, pieces)).toEqual(expected);
      }),
    );
  });
});
