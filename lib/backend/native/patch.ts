import { BackendError } from '../../../layers/errors';

/** What the compiled binding exports as `VISPRUNER_PATCH`; raise it with every change of the edits below, and of the operations in `kernels/`. */
export const PATCH_VERSION = 6;

/** One edit of one source file: `after` must occur in it exactly once, and `text` is put behind it. */
interface Edit {
  readonly file: string;
  readonly after: string;
  readonly text: string;
}

/**
 * Additions to tfjs-node 4.22's C++.
 *
 * 1. Attributes of type list(string), as the binding has lists of every other type. Some of TensorFlow's operations can't be called without
 *    (`_MklNativeFusedMatMul`, twice as fast as MatMul for one row in bfloat16), and an operation that lacks an attribute ends the process.
 * 2. A mark, for that reason: a caller has to know what binding it has before it calls.
 */
const EDITS: readonly Edit[] = [
  {
    file: 'tfjs_backend.cc',
    after: '    case TF_ATTR_STRING: {\n',
    text: `      if (IsArray(env, nstatus, &js_value)) {
        uint32_t count;
        nstatus = napi_get_array_length(env, js_value, &count);
        ENSURE_NAPI_OK(env, nstatus);
        std::vector<std::string> texts(count);
        std::vector<const void *> addresses(count);
        std::vector<size_t> sizes(count);
        for (uint32_t i = 0; i < count; ++i) {
          napi_value element;
          nstatus = napi_get_element(env, js_value, i, &element);
          ENSURE_NAPI_OK(env, nstatus);
          nstatus = GetStringParam(env, element, texts[i]);
          ENSURE_NAPI_OK(env, nstatus);
          addresses[i] = texts[i].data();
          sizes[i] = texts[i].size();
        }
        TFE_OpSetAttrStringList(tfe_op, attr_name, addresses.data(), sizes.data(),
                                static_cast<int>(count));
        break;
      }
`,
  },
  {
    file: 'tfjs_binding.cc',
    after: '  EXPORT_INT_PROPERTY(TF_ATTR_SHAPE);\n',
    text: `  AssignIntProperty(env, exports, "VISPRUNER_PATCH", ${PATCH_VERSION});\n`,
  },
];

/**
 * The text of one of tfjs-node's C++ files with the edits that belong to it.
 *
 * @throws BackendError `NATIVE_INSTALL` when the file is not the one that the edits were written for
 */
export function patched(file: string, source: string): string {
  return EDITS.filter((edit) => edit.file === file).reduce((text, { after, text: addition }) => {
    const [before, rest, ...more] = text.split(after);
    if (before === undefined || rest === undefined || more.length > 0) {
      throw new BackendError(
        'NATIVE_INSTALL',
        `tfjs-node's ${file} is not the expected one: "${after.trim()}" occurs ${text.split(after).length - 1} times in it, not once. Install again: "vispruner doctor --install-native" gets the version that the additions are for.`,
      );
    }
    return `${before}${after}${addition}${rest}`;
  }, source);
}
