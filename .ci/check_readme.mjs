/**
 * Runs what README.md shows. Every ```sh block is run line by line in the checkout, and every ```ts block is type-checked against the built declarations
 * and run as a module of its own, in the order of the page. A comment `<!-- not run: why -->` on the line before a block leaves it out, and the why is
 * printed. Lines that .ci/run has run as steps of their own (npm ci, the demo) are passed over.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import process from 'node:process';

const require = createRequire(import.meta.url);
const ts = require('typescript');
const SECONDS_PER_COMMAND = 300;
const ALREADY_DONE = /^(git clone|cd|npm ci|npm run demo)\b/;
const folder = path.resolve('dist/readme'); // inside the package, so that `import 'vispruner'` finds it
let failed = 0;

function report(label, problem) {
  failed += problem === undefined ? 0 : 1;
  console.log(problem === undefined ? `ok      ${label}` : `FAILED  ${label}\n${problem}`);
}

function runCommand(label, program, args, options) {
  const started = Date.now();
  const result = spawnSync(program, args, { encoding: 'utf8', timeout: SECONDS_PER_COMMAND * 1000, ...options });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  report(`${label} (${seconds} s)`, result.status === 0 ? undefined : `${result.stdout}${result.stderr}${result.error ?? ''}`);
}

function typeErrors(file) {
  const program = ts.createProgram([file], {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.ES2022,
    moduleResolution: ts.ModuleResolutionKind.Node10,
    lib: ['lib.es2022.d.ts', 'lib.dom.d.ts'],
    types: ['node'],
    strict: true,
    skipLibCheck: true,
    esModuleInterop: true,
    noEmit: true,
    paths: { vispruner: [path.resolve('dist/types/lib/index.d.ts')] },
  });
  const host = { getCanonicalFileName: (name) => name, getCurrentDirectory: process.cwd, getNewLine: () => '\n' };
  return ts.formatDiagnostics(ts.getPreEmitDiagnostics(program), host);
}

const markdown = fs.readFileSync('README.md', 'utf8');
fs.mkdirSync(folder, { recursive: true });
let blocks = 0;
for (const match of markdown.matchAll(/(?:<!-- not run: (.*?) -->\n)?```(sh|ts)\n(.*?)```/gs)) {
  const [, reason, language, body] = match;
  blocks += 1;
  const label = `README.md line ${markdown.slice(0, match.index).split('\n').length}`;
  if (reason !== undefined) {
    console.log(`not run ${label}: ${reason}`);
  } else if (language === 'sh') {
    const commands = body.replaceAll('\\\n', ' ').split('\n');
    for (const command of commands.map((line) => line.replace(/\s+#.*$/, '').trim())) {
      if (command !== '' && !command.startsWith('#') && !ALREADY_DONE.test(command)) runCommand(`${label}: ${command}`, 'bash', ['-c', command]);
    }
  } else {
    const source = path.join(folder, `block_${blocks}.ts`);
    fs.writeFileSync(source, body);
    const problem = typeErrors(source);
    report(`${label}: types`, problem === '' ? undefined : problem);
    const module = source.replace(/\.ts$/, '.mjs');
    const { outputText } = ts.transpileModule(body, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 } });
    fs.writeFileSync(module, outputText);
    runCommand(`${label}: run`, process.execPath, [module]);
  }
}
if (blocks === 0) report('README.md', 'no ```sh and no ```ts block found');
process.exitCode = failed > 0 ? 1 : 0;
