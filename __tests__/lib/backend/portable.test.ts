import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { ROOT } from '../../process/child';
import { describeNative } from '../../support/native';

describeNative('the kernels on a processor without AVX2', () => {
  // VISPRUNER_PORTABLE is read once in a process
  it('pass the tests that they pass with it', () => {
    const jest = createRequire(__filename).resolve('jest/bin/jest');
    const files = ['decoder_block', 'fused', 'half'].map((name) => `__tests__/lib/backend/${name}.test.ts`);
    const { status, stderr } = spawnSync(process.execPath, [jest, '--runInBand', ...files], {
      cwd: ROOT,
      env: { ...process.env, VISPRUNER_PORTABLE: '1' },
      encoding: 'utf8',
    });
    expect(stderr).toMatch(/Tests: .*[1-9]\d* passed/);
    expect([status, stderr.match(/● .*/g)]).toEqual([0, null]);
  });
});
