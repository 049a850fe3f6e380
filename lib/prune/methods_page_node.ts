import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { methodsPage } from './methods_page';

writeFileSync(join(__dirname, '../../docs/methods.md'), methodsPage());
