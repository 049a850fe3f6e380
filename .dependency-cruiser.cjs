/**
 * The rooms of the project and what each may import; "npm run lint" enforces it.
 *
 *   layers    tfjs                                   the boxes of the figure: no file, no configuration, no prompt
 *   weights   tfjs, layers/{parameters,errors}       tensors at rest
 *   lib       layers, weights (lib/cli: convert too)  the model put together and used; lib/index.ts is the public surface
 *   convert   weights, lib/config                    checkpoint to checkpoint
 *   examples, bench   lib/index                      what a user has
 *
 * Node's modules and sharp are imported only where a browser never goes: in files named *_node.ts, in the folders that run as commands, and in the server.
 */
const NODE_ONLY = '(_node\\.ts$|^lib/(cli|server|train|backend/native)/|^(convert|examples|bench|__tests__)/)';

/** `from` may import, of the project's own rooms, only what `allowed` matches. */
const room = (name, allowed, comment) => ({
  name: `${name}-imports`,
  comment,
  severity: 'error',
  from: { path: `^${name}/`, pathNot: '^lib/cli/' },
  to: { path: '^(layers|weights|lib|convert|examples|bench|__tests__)/', pathNot: `^(${name}/|${allowed})` },
});

/** `from` may import, of installed packages, only what `allowed` matches. */
const packages = (name, allowed, comment) => ({
  name: `${name}-packages`,
  comment,
  severity: 'error',
  from: { path: `^${name}/`, pathNot: NODE_ONLY },
  to: { dependencyTypes: ['npm', 'npm-dev', 'npm-optional', 'npm-peer'], pathNot: `node_modules/(${allowed})/` },
});

module.exports = {
  forbidden: [
    room('layers', '$^', 'A layer knows tensors and its parameters, nothing else.'),
    room('weights', 'layers/(parameters|errors)\\.ts$', 'Tensors at rest know no layer, only what a layer declares.'),
    room('lib', 'layers/|weights/', 'The library never reaches into what is built on it.'),
    {
      name: 'cli-imports',
      comment: 'The command line may run "convert" too, but no example and no benchmark.',
      severity: 'error',
      from: { path: '^lib/cli/' },
      to: { path: '^(examples|bench|__tests__)/' },
    },
    room('convert', 'weights/|lib/config|layers/(parameters|errors|error_codes)\\.ts$', 'Checkpoint to checkpoint: no model is built.'),
    room('examples', 'lib/index\\.ts$', 'Examples use what a user has.'),
    room('bench', 'lib/index\\.ts$', 'Benchmarks measure what a user has.'),
    packages('layers', '@tensorflow/tfjs', 'TensorFlow.js is all that a layer needs.'),
    packages('weights', '@tensorflow/tfjs', 'Our own readers and writers: no other package reads checkpoints.'),
    {
      name: 'one-tfjs',
      comment: 'tfjs-core alone registers no gradients, and a second copy has other tensors: import @tensorflow/tfjs.',
      severity: 'error',
      from: { path: '^(layers|weights|lib|convert|examples|bench)/' },
      to: { path: 'node_modules/@tensorflow/(tfjs-core|tfjs-layers|tfjs-converter|tfjs-data|tfjs-backend-(cpu|webgl))/' },
    },
    {
      name: 'browser-safe',
      comment: 'All else must be able to run in a page.',
      severity: 'error',
      from: { path: '^(layers|weights|lib)/', pathNot: NODE_ONLY },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'browser-safe-packages',
      comment: 'These packages need Node.',
      severity: 'error',
      from: { path: '^(layers|weights|lib)/', pathNot: NODE_ONLY },
      to: { path: 'node_modules/(sharp|commander|cli-progress|@types/node)/' },
    },
    {
      name: 'no-tests-in-code',
      comment: 'Tests import code, never the other way.',
      severity: 'error',
      from: { pathNot: '^__tests__/' },
      to: { path: '^__tests__/' },
    },
    {
      name: 'no-development-packages-in-code',
      comment: 'What the published package imports has to be installed with it.',
      severity: 'error',
      from: { path: '^(layers|weights|lib|convert)/' },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-cycles',
      comment: 'A cycle has no order in which it can be read.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'resolvable',
      comment: 'The file or package does not exist, or is missing from package.json.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(dist|docs/api)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['types', 'node', 'require', 'import'] },
  },
};
