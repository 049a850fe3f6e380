/** Packages that are published as ES modules alone: jest's own `require` does not load such, as Node's does. */
const ES_MODULES = [
  '@observablehq/plot',
  'd3',
  'd3-[a-z-]+',
  'internmap',
  'delaunator',
  'robust-predicates',
  'interval-tree-1d',
  'isoformat',
  'css-select',
  'css-what',
  'cssomnom',
  'dom-serializer',
  'domhandler',
  'domutils',
  'domelementtype',
  'nth-check',
  'boolbase',
  'entities',
  'is-any-array',
  'ml-array-(max|min|rescale)',
];

/** Tests run from source through swc; types are checked apart (npm run types). */
module.exports = {
  testEnvironment: 'node',
  testMatch: ['<rootDir>/__tests__/**/*.test.ts'],
  transform: {
    '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } } }],
    '/node_modules/.+\\.m?js$': ['@swc/jest', { jsc: { target: 'es2022' }, module: { type: 'commonjs' } }],
  },
  transformIgnorePatterns: [`/node_modules/(?!(${ES_MODULES.join('|')})/)`],
  modulePathIgnorePatterns: ['<rootDir>/(dist|[.]venv|runs)/'],
  testTimeout: 180000,
};
