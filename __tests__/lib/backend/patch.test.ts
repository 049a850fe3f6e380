import { PATCH_VERSION, patched } from '../../../lib/backend/native/patch';

const SOURCE = 'switch (type) {\n    case TF_ATTR_STRING: {\n      one();\n    }\n}\n';

describe('the additions to the C++ of the native binding', () => {
  it('stand behind the line that they belong to, and change nothing else', () => {
    const result = patched('tfjs_backend.cc', SOURCE);
    expect(result).toContain('TFE_OpSetAttrStringList');
    const [before, after] = SOURCE.split('      one();');
    expect(result.startsWith(before as string)).toBe(true);
    expect(result.endsWith(`      one();${after}`)).toBe(true);
  });

  it('carry their version as a mark', () => {
    expect(patched('tfjs_binding.cc', '  EXPORT_INT_PROPERTY(TF_ATTR_SHAPE);\n')).toContain(`"VISPRUNER_PATCH", ${PATCH_VERSION}`);
  });

  it('are refused for a source that lacks the line or has it twice: another version of tfjs-node', () => {
    for (const source of ['', SOURCE + SOURCE]) {
      expect(() => patched('tfjs_backend.cc', source)).toThrow(expect.objectContaining({ code: 'NATIVE_INSTALL' }));
    }
  });
});
