/**
 * The public declarations must parse under TypeScript 5.0.4, which is what tslab (the notebooks' kernel) compiles with; an inferred
 * `Int32Array<ArrayBuffer>` is the usual way to break it. Declarations of other packages are not judged: tfjs's own have errors.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import process from 'node:process';

const VERSION = '5.0.4';

/** Installed apart, in .venv/ like tslab: as a dependency its `tsc` would take the place of the project's own. */
function oldTypeScript() {
  const prefix = path.resolve('.venv', `typescript-${VERSION}`);
  const folder = path.join(prefix, 'node_modules', 'typescript');
  if (!fs.existsSync(folder)) {
    execFileSync('npm', ['install', '--silent', '--no-audit', '--no-fund', '--prefix', prefix, `typescript@${VERSION}`], { stdio: 'inherit' });
  }
  return createRequire(import.meta.url)(folder);
}

const ts = oldTypeScript();
const entries = ['index.d.ts', 'server/index.d.ts'].map((file) => path.resolve('dist/types/lib', file));
const missing = entries.find((file) => !ts.sys.fileExists(file));
if (missing !== undefined) {
  console.error(`${missing} is not there. Run "npm run build" first.`);
  process.exit(1);
}
const program = ts.createProgram(entries, {
  target: ts.ScriptTarget.ES2020,
  module: ts.ModuleKind.CommonJS,
  moduleResolution: ts.ModuleResolutionKind.Node10,
  lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'],
  types: ['node'],
  strict: true,
  esModuleInterop: true,
  noEmit: true,
});
const ours = path.resolve('dist/types') + path.sep;
const files = program.getSourceFiles().filter((file) => path.resolve(file.fileName).startsWith(ours));
const problems = files.flatMap((file) => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)]);

const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: process.cwd, getNewLine: () => '\n' };
if (problems.length > 0) {
  console.error(ts.formatDiagnostics(problems, host));
  process.exit(1);
}
console.log(`TypeScript ${ts.version} reads the ${files.length} declaration files that lib/index.d.ts reaches.`);
