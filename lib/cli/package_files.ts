import * as fs from 'node:fs';
import * as path from 'node:path';

/** The folder of this package: the nearest one above this file with a package.json. Compiled code lies deeper than its source. */
function packageFolder(): string {
  let folder = __dirname;
  while (!fs.existsSync(path.join(folder, 'package.json'))) folder = path.dirname(folder);
  return folder;
}

export function version(): string {
  const { version: own } = JSON.parse(fs.readFileSync(path.join(packageFolder(), 'package.json'), 'utf8')) as { version: string };
  return own;
}

/** The version of an installed package. */
export function packageVersion(name: string): string {
  return (JSON.parse(fs.readFileSync(require.resolve(`${name}/package.json`), 'utf8')) as { version: string }).version;
}

/** The model that comes with the package, and that commands use unless `--model` names another. */
export function shippedModel(): string {
  return path.join(packageFolder(), 'weights', 'vispruner-tiny');
}
