import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { methodsPage } from '../../../lib/prune/methods_page';

it('docs/methods.md says what the methods say of themselves ("npm run docs:methods" writes it anew)', () => {
  expect(readFileSync(join(__dirname, '../../../docs/methods.md'), 'utf8')).toBe(methodsPage());
});
