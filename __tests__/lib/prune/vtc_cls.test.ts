import { createPruner, type PruneOptions } from '../../../lib/prune/registry';
import { BACKENDS, useBackend } from '../../support/backends';
import { casesOf, EncoderFixture } from './encoder_fixture';
import { clip } from './views';

describe.each(BACKENDS)('VTC-CLS on %s', (backend) => {
  let fixture: EncoderFixture;
  beforeAll(async () => {
    await useBackend(backend);
    fixture = new EncoderFixture();
  });
  afterAll(() => fixture.dispose());

  it.each(casesOf('vtc-cls'))('keeps what its description gives: %s', (_title, one) => fixture.expectRecorded(one));

  it('with one block keeps what FasterVLM keeps, with three something else', async () => {
    const kept = async (options: PruneOptions) => {
      const { members, tokens } = await fixture.tokensOf(options, 1);
      tokens.dispose();
      return members;
    };
    const one = await kept({ method: 'fastervlm', tokens: 9 });
    expect(await kept({ method: 'vtc-cls', tokens: 9, blocks: 1 })).toEqual(one);
    expect(await kept({ method: 'vtc-cls', tokens: 9 })).not.toEqual(one);
  });
});

describe('the blocks that VTC-CLS reads', () => {
  const needs = (options: object, encoder = clip) => createPruner({ method: 'vtc-cls', tokens: 4, ...options } as PruneOptions).needs(encoder);
  const blocks = (options: object, encoder = clip) => needs(options, encoder).attention.map(({ block }) => block);

  it('are three up to that of the features; of a shallow encoder all', () => {
    expect(blocks({}, { ...clip, blocks: 24, featureBlock: 22 })).toEqual([22, 21, 20]);
    expect(blocks({ blocks: 7 }, { ...clip, blocks: 24, featureBlock: 22 })).toEqual([22, 21, 20, 19, 18, 17, 16]);
    expect(blocks({}, { ...clip, featureBlock: 1 })).toEqual([1, 0]);
  });

  it.each([0, 1.5, '3'])('are refused when they are %p', (count) => {
    expect(() => needs({ blocks: count })).toThrow(expect.objectContaining({ name: 'PruneError', code: 'METHOD_OPTION_INVALID' }));
  });

  it('are refused when there are fewer, and where there is no class token or no block', () => {
    expect(() => needs({ blocks: 4 })).toThrow('"blocks" is 4, but the encoder has 3 blocks up to the features');
    expect(() => needs({}, { ...clip, hasClassToken: false })).toThrow(expect.objectContaining({ code: 'ATTENTION_UNAVAILABLE' }));
    expect(() => needs({}, { ...clip, featureBlock: -1 })).toThrow(expect.objectContaining({ code: 'ATTENTION_UNAVAILABLE' }));
  });
});
