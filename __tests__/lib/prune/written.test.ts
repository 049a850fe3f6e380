import { methodNamed, parseMethod, splitOutside } from '../../../lib/prune/written';

describe('a method as a command line has it', () => {
  it.each([
    ['none', { name: 'none', options: {} }],
    ['pyramiddrop:layers=[1,3]:ratio=0.4', { name: 'pyramiddrop', options: { layers: [1, 3], ratio: 0.4 } }],
    [' sparsevlm : version=plus : target = 64 ', { name: 'sparsevlm', options: { version: 'plus', target: 64 } }],
    ['fitprune:recipe=[4, 0]:patches=16', { name: 'fitprune', options: { recipe: [4, 0], patches: 16 } }],
  ])('%s', (text, expected) => {
    expect(parseMethod(text)).toEqual(expected);
  });

  it.each([
    ['best:tokens=4', 'METHOD_UNKNOWN', '"best"'],
    ['toString', 'METHOD_UNKNOWN', '"toString"'],
    ['', 'METHOD_UNKNOWN', '""'],
    ['fastv:tokens', 'METHOD_LIST', '"tokens" of "fastv:tokens"'],
    ['fastv:=4', 'METHOD_LIST', 'option=value'],
    ['fastv:token=4', 'METHOD_OPTION_UNKNOWN', '"token"'],
  ])('%s is refused', (text, code, message) => {
    expect(() => parseMethod(text)).toThrow(expect.objectContaining({ name: 'PruneError', code }));
    expect(() => parseMethod(text)).toThrow(message);
  });

  it('is split only outside of brackets, also where one is never closed', () => {
    expect(splitOutside('a=[1,{"b":2}],c,,d', ',')).toEqual(['a=[1,{"b":2}]', 'c', 'd']);
    expect(splitOutside('a=[1,2', ',')).toEqual(['a=[1,2']);
  });

  it('has a row in the registry', () => {
    expect(methodNamed('vtw').about.title).toBe('VTW');
  });
});
