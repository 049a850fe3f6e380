/**
 * Builds dist/esm, the library for browsers and bundlers: ES modules with no Node module in them. Where a browser can't go (`*_node.ts`), its sibling
 * `*_browser.ts` takes the place; without one, the same functions with an error that says that they need Node.
 */
import fs from 'node:fs';
import { isBuiltin } from 'node:module';
import process from 'node:process';
import { build } from 'esbuild';

const FUNCTION = /^export (?:async )?function\*? (\w+)/gm;

function needsNode(source) {
  const names = [...source.matchAll(FUNCTION)].map((match) => match[1]);
  return names.map((name) => `export function ${name}() { throw new Error('${name} reads files, which needs Node.'); }`).join('\n');
}

const platformFiles = {
  name: 'platform-files',
  setup({ onLoad }) {
    onLoad({ filter: /_node\.ts$/ }, ({ path }) => {
      const sibling = path.replace(/_node\.ts$/, '_browser.ts');
      const contents = fs.existsSync(sibling) ? fs.readFileSync(sibling, 'utf8') : needsNode(fs.readFileSync(path, 'utf8'));
      return { contents, loader: 'ts' };
    });
  },
};

const result = await build({
  entryPoints: ['lib/index.ts'],
  bundle: true,
  splitting: true,
  packages: 'external',
  format: 'esm',
  target: 'es2022',
  outdir: process.argv[2] ?? 'dist/esm',
  outExtension: { '.js': '.mjs' },
  metafile: true,
  plugins: [platformFiles],
});

const imports = Object.values(result.metafile.outputs).flatMap((output) => output.imports.filter((entry) => entry.external));
const forbidden = imports.map((entry) => entry.path).filter((path) => isBuiltin(path) || path === 'sharp');
if (forbidden.length > 0) {
  console.error(`dist/esm would import what no browser has: ${[...new Set(forbidden)].join(', ')}. Move that into a *_node.ts file.`);
  process.exitCode = 1;
}
