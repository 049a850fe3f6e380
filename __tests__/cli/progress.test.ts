import { bytes } from '../../lib/cli/output';
import { progressBar } from '../../lib/cli/progress';

/** What a bar writes to a terminal. */
function written(use: () => void): string {
  const terminal = Object.getOwnPropertyDescriptor(process.stderr, 'isTTY');
  let text = '';
  const write = jest.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  Object.defineProperty(process.stderr, 'isTTY', { value: true, configurable: true });
  try {
    use();
  } finally {
    if (terminal) Object.defineProperty(process.stderr, 'isTTY', terminal);
    else Reflect.deleteProperty(process.stderr, 'isTTY');
    write.mockRestore();
  }
  return text;
}

it('loading shows how many bytes of how many are there, for how long it goes on, and how long it may go on', () => {
  const text = written(() => {
    const bar = progressBar('Loading', bytes);
    bar.update(3 * 2 ** 30, 12 * 2 ** 30, 10);
    bar.stop();
  });
  expect(text).toContain('Loading');
  expect(text).toContain('25% 3.00 GiB of 12.00 GiB, 10 s, 30 s to go');
});

it('without seconds there are none', () => {
  const text = written(() => {
    const bar = progressBar('Converting');
    bar.update(1, 4);
    bar.stop();
  });
  expect(text).toContain('25%');
  expect(text).not.toContain('to go');
});
