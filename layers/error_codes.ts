/**
 * Every code of every error of this package, with what it means and what to do about it: the source of docs/errors.md ("npm run docs:errors").
 * A code belongs to one class and means one thing. `errors.ts` imports this for its types alone, so the texts enter no bundle.
 */
export interface CodeEntry {
  readonly cause: string;
  readonly remedy: string;
  /** What the caller wrote (an option, an argument, the question) is wrong, not what it names: the command line exits with 2. */
  readonly use?: true;
}

export const CHECKPOINT_CODES = {
  // files
  CHECKSUMS_FORMAT: { cause: 'SHA256SUMS is not what sha256sum writes.', remedy: 'Write it again with sha256sum, or get it again.' },
  CHECKSUM_MISMATCH: { cause: 'Files differ from the SHA-256 that they should have.', remedy: 'They were changed or damaged: get them again.' },
  FETCH_FAILED: {
    cause: 'A request for a file failed, or was answered with an error or with another part of the file.',
    remedy: 'Check the address and the network; a server of another origin must allow CORS and expose Content-Range.',
  },
  FILE_NOT_FOUND: { cause: 'There is no file or directory of that name.', remedy: 'Check the path, and that the download is complete.' },
  FILE_SHRANK: {
    cause: 'A file had fewer bytes when it was read than when it was opened.',
    remedy: 'Wait until whatever writes it is done, then load again.',
  },
  FILE_TOO_SHORT: { cause: 'A safetensors file has at least 8 bytes, and this one has fewer.', remedy: 'Get the file again.' },
  FILE_TRUNCATED: { cause: 'The header places tensors beyond the end of the file.', remedy: 'The download is incomplete: get the file again.' },
  FILE_UNREADABLE: { cause: 'The file system refused to read, for the reason given.', remedy: 'Check the disk or the share that the file lies on.' },
  GIT_LFS_POINTER: {
    cause: 'In place of the file there is the small text by which git-LFS refers to it.',
    remedy: 'Run "git lfs pull" in its repository.',
  },
  IS_DIRECTORY: { cause: 'A file is needed, and the path is a directory.', remedy: 'Name the file in it.' },
  NOT_A_DIRECTORY: { cause: 'A directory is needed, and the path is a file.', remedy: 'Name the directory that holds config.json and the weights.' },
  NOT_JSON: { cause: 'A configuration, tokenizer or index is not JSON.', remedy: 'Get the file again, or undo what was changed in it by hand.' },
  NOT_UTF8: { cause: 'A text file is not UTF-8.', remedy: 'Get the file again.' },
  PERMISSION_DENIED: { cause: 'This user may not read the file.', remedy: 'Change its permissions (chmod u+r), or run as the user that owns it.' },
  RANGE_IGNORED: {
    cause: 'The server sends whole files where a part was asked for.',
    remedy: 'Serve the checkpoint from a host that answers range requests.',
  },
  READ_PAST_END: { cause: 'Bytes outside a file were asked for.', remedy: 'Keep offset and length inside the size of the source.' },
  READ_TOO_LARGE: {
    cause: 'One tensor is larger than the longest array of JavaScript, or than the memory that is left.',
    remedy: 'Write the file again with smaller tensors, or close other programs.',
  },
  TEXT_TOO_LARGE: {
    cause: 'A configuration, tokenizer or index has more than 268,435,456 bytes.',
    remedy: 'It is another file than its name says: get it again.',
  },
  // the header of a safetensors file
  BAD_DIMENSION: {
    cause: 'A dimension in a shape is not a whole number from 0 to 2^53 - 1.',
    remedy: 'Write the file again with a current safetensors package.',
  },
  BAD_NAME: { cause: 'A name or metadata text can not be written: reserved, or not valid Unicode.', remedy: 'Give the tensor another name.' },
  BAD_OFFSETS: {
    cause: 'data_offsets are not two whole numbers, the begin and a not smaller end.',
    remedy: 'Write the file again with a current safetensors package.',
  },
  DUPLICATE_KEY: {
    cause: 'A JSON object has a key twice, so which value is meant is unknown.',
    remedy: 'Write the file again, with each name once.',
  },
  ENTRY_FIELD_MISSING: {
    cause: 'The entry of a tensor has no dtype, shape or data_offsets.',
    remedy: 'Write the file again with a current safetensors package.',
  },
  ENTRY_FIELD_TYPE: {
    cause: 'A field of a tensor entry is of another JSON type than the format says.',
    remedy: 'Write the file again with a current safetensors package.',
  },
  ENTRY_NOT_OBJECT: { cause: 'The entry of a tensor is not a JSON object.', remedy: 'Write the file again with a current safetensors package.' },
  HEADER_NOT_JSON: { cause: 'The header is not JSON.', remedy: 'The file is damaged or is no safetensors file: get it again.' },
  HEADER_NOT_OBJECT: {
    cause: 'The header is JSON, but not an object of tensors.',
    remedy: 'The file is damaged or is no safetensors file: get it again.',
  },
  HEADER_NOT_UTF8: { cause: 'The header is not UTF-8.', remedy: 'The file is damaged or is no safetensors file: get it again.' },
  HEADER_PAST_END: { cause: 'The header should be longer than the file is.', remedy: 'The file was cut or is no safetensors file: get it again.' },
  HEADER_TOO_LARGE: {
    cause: 'The header is longer than the 100,000,000 bytes that readers allow.',
    remedy: 'It is probably no safetensors file; when writing, use several files.',
  },
  METADATA_NOT_STRINGS: { cause: '__metadata__ is not an object of strings.', remedy: 'Write the file again with string values only.' },
  PARTIAL_BYTE: { cause: 'A tensor of elements smaller than a byte ends inside one.', remedy: 'Pad the tensor to whole bytes before it is written.' },
  SIZE_MISMATCH: {
    cause: 'A tensor has more or fewer bytes than its shape and dtype take.',
    remedy: 'Write the file again from tensors that agree with their shapes.',
  },
  SIZE_OVERFLOW: {
    cause: 'The product of a shape does not fit into 64 bits.',
    remedy: 'The header is damaged or hostile: get the file from a source you trust.',
  },
  TENSOR_HOLE: { cause: 'Between two tensors lie bytes that belong to none.', remedy: 'Write the file again with a current safetensors package.' },
  TENSOR_OVERLAP: { cause: 'Two tensors share bytes.', remedy: 'Write the file again, with a copy of each shared tensor or without it.' },
  TRAILING_BYTES: { cause: 'Behind the last tensor lie bytes that belong to none.', remedy: 'Get the file again; it may be two files joined.' },
  UNKNOWN_DTYPE: { cause: 'A dtype is none that the safetensors format has.', remedy: 'Write the file again with a dtype of the format.' },
  // tensors
  BF16_OVERFLOW: { cause: 'Finite values lie beyond what BF16 holds and would become infinite.', remedy: 'Write F32.' },
  F16_OVERFLOW: { cause: 'Finite values lie beyond 65504 and would become infinite in F16.', remedy: 'Write BF16 or F32.' },
  F32_OVERFLOW: {
    cause: 'Finite F64 values lie beyond what F32 holds and would become infinite.',
    remedy: 'Leave the tensor in F64, or look for the fault that made it so large.',
  },
  INTEGER_OUT_OF_RANGE: {
    cause: 'An integer does not fit into int32, the only integer type of TensorFlow.js.',
    remedy: 'Read the raw bytes of the tensor.',
  },
  NOT_FINITE: { cause: 'A weight is NaN or infinite.', remedy: 'The weights are damaged or diverged in training: get or train them again.' },
  NO_SUCH_TENSOR: { cause: 'No tensor of that name is in the file.', remedy: 'Compare with the names that it lists.' },
  UNSUPPORTED_DTYPE: {
    cause: 'A dtype is known to the format, but TensorFlow.js can not compute with it.',
    remedy: 'Convert the tensor to F32, F16 or BF16.',
  },
  // the checkpoint and its index
  NO_CHECKSUMS: {
    cause: 'Checksums are to be compared, and the directory has none for its weights.',
    remedy: 'Where you trust the files, write them with sha256sum; a conversion writes them by itself.',
  },
  CONVERSION_UNFINISHED: { cause: 'A conversion into this directory was broken off.', remedy: 'Delete the directory and convert again.' },
  MODEL_NOT_CACHED: {
    cause: 'A name is no directory, and no model of that name is in the Hugging Face cache.',
    remedy: 'Fetch it with "vispruner pull", or check the path, HF_HUB_CACHE and HF_HOME.',
  },
  REVISION_NOT_CACHED: {
    cause: 'The Hugging Face cache has the model, but not that branch, tag or commit.',
    remedy: 'Use one that the message lists, or fetch it with "vispruner pull".',
  },
  SNAPSHOT_INCOMPLETE: {
    cause: 'The Hugging Face cache has a part of the model only.',
    remedy: 'Run "vispruner pull" with its name: it fetches what is missing.',
  },
  KEY_NOT_IN_SHARD: {
    cause: 'The index names a tensor that its shard does not hold.',
    remedy: 'Index and shards are of different versions: get all of them again.',
  },
  NO_WEIGHTS: {
    cause: 'The directory holds neither model.safetensors nor its index.',
    remedy: 'Check the directory; convert .bin or GGUF weights to safetensors first.',
  },
  SHARD_MISSING: { cause: 'The index names a file that is not there.', remedy: 'Get the missing file.' },
  SHARD_PATH: {
    cause: 'An index or a list of checksums names a file outside its own directory.',
    remedy: 'Do not trust this checkpoint, or correct the path: its files lie in one directory.',
  },
  TENSOR_IN_TWO_SHARDS: {
    cause: 'Two shards hold a tensor of the same name.',
    remedy: 'Remove the shard of another version, or write the checkpoint again.',
  },
  TENSOR_NOT_IN_INDEX: {
    cause: 'A shard holds a tensor that the index does not name.',
    remedy: 'Index and shards are of different versions: get all of them again.',
  },
  WEIGHT_MAP_MISSING: { cause: 'The index has no weight_map that gives tensors their files.', remedy: 'Get the index again.' },
  // the checkpoint and the model
  KEYS_DO_NOT_FIT: {
    cause: 'Tensors differ from the model of config.json in several ways, all of which are listed.',
    remedy: 'Use the config.json that belongs to these weights.',
  },
  MISSING_KEYS: {
    cause: 'The model of config.json needs tensors that the checkpoint does not have.',
    remedy: 'Use the config.json that belongs to these weights, and all of their files.',
  },
  SHAPE_MISMATCH: {
    cause: 'A tensor has another shape than the model of config.json needs.',
    remedy: 'Use the config.json that belongs to these weights.',
  },
  TWO_NAMES: { cause: 'A parameter is in the checkpoint under the names of two layouts.', remedy: 'Remove one of them.' },
  UNEXPECTED_KEYS: {
    cause: 'The checkpoint has tensors that the model or layout has no place for.',
    remedy: 'Use the config.json that belongs to these weights, or keep the layout.',
  },
  UNKNOWN_LAYOUT: { cause: 'No layout of keys has that name.', remedy: 'Use one of the names that the message lists.', use: true },
} as const;

/** Names of models, and what comes of fetching them. */
export const HUB_CODES = {
  BAD_ENDPOINT: { cause: 'The address of the hub is none.', remedy: 'Give one that begins with https:// (HF_ENDPOINT).', use: true },
  BAD_MODEL_NAME: { cause: 'A model on a hub is called org/name or org/name@revision.', remedy: "Copy the name from the model's page.", use: true },
  BAD_REVISION: {
    cause: 'A text can be no branch, tag or commit, or two revisions were given.',
    remedy: 'Give one branch, tag, full commit hash, or refs/pr/1.',
    use: true,
  },
  BAD_TOKEN: {
    cause: 'A token for a hub has blanks or signs that none can have.',
    remedy: 'Copy the token again from your settings there.',
    use: true,
  },
  HUB_BAD_ANSWER: {
    cause: 'What answers is no hub, or not what was asked for.',
    remedy: 'Check HF_ENDPOINT, and whether a proxy answers in its place.',
  },
  HUB_CHECKSUM: {
    cause: 'A file that came does not have the hash that the hub lists; it was removed.',
    remedy: 'Pull again; if it stays so, the hub or a proxy serves a wrong file.',
  },
  HUB_FAILED: { cause: 'The hub answered with an error, several times where it could have passed.', remedy: 'Try again later.' },
  HUB_FILE_NOT_FOUND: { cause: 'A file that the hub lists is not there.', remedy: 'Pull again: the repository may have changed meanwhile.' },
  HUB_FORBIDDEN: { cause: 'The token may not read this model.', remedy: "Check the token's permissions, or use another." },
  HUB_GATED: {
    cause: 'The model is given only to those who accepted its licence.',
    remedy: "Accept it on the model's page, then pull with the token of that account (HF_TOKEN or --token).",
  },
  HUB_OFFLINE: { cause: 'HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE asks for no network.', remedy: 'Unset it to fetch a model.' },
  HUB_REPOSITORY_NOT_FOUND: {
    cause: 'The hub has no such model, or does not show it to who asks.',
    remedy: 'Check the name; for a private model give a token (HF_TOKEN or --token).',
  },
  HUB_REVISION_NOT_FOUND: { cause: 'The model has no such branch, tag or commit.', remedy: "Look at the branches on the model's page." },
  HUB_UNAUTHORIZED: { cause: 'The hub does not accept the token.', remedy: 'Make a new token, or pull without one.' },
  HUB_UNREACHABLE: { cause: 'The connection to the hub failed, several times.', remedy: 'Check the network, the proxy and HF_ENDPOINT.' },
  HUB_WRONG_SIZE: {
    cause: 'A file that came is longer or shorter than the hub lists; it was removed.',
    remedy: 'Pull again; if it stays so, the hub or a proxy serves a wrong file.',
  },
  NO_CONFIG: { cause: 'The repository has no config.json, so it is no model.', remedy: 'Check the name, or fetch what you want with --include.' },
  NO_SAFETENSORS: {
    cause: 'The repository has its weights in another form than safetensors.',
    remedy: "Look for a revision that has safetensors, or convert it with transformers' save_pretrained.",
  },
  NO_SUCH_FILES: { cause: 'No file of the repository matches a pattern.', remedy: 'Compare it with the names that the message lists.', use: true },
  UNSAFE_FILE_NAME: {
    cause: 'The hub lists a file whose name could lead out of its folder.',
    remedy: 'Do not trust this repository. Nothing of it was fetched.',
  },
} as const;

export const CONFIG_CODES = {
  BAD_OPTION: {
    cause: 'An option of a command, a conversion or an analysis has a value that it can not have.',
    remedy: 'Use a value of the form that the message shows.',
    use: true,
  },
  BLOCK_COUNT: { cause: 'Visual tokens are listed for another number of blocks than the decoder has.', remedy: 'Give one count a block.', use: true },
  CHAT_TEMPLATE: {
    cause: 'The chat template of the checkpoint is not one that can be read.',
    remedy: 'Get the tokenizer files again, or correct the template.',
  },
  CONFIG_FIELD: {
    cause: 'A field of a configuration has a wrong form, or one that is needed is missing.',
    remedy: "Correct the field; many can be left out for transformers' default.",
  },
  COUNT_INVALID: { cause: 'A count of tokens or crops is negative or no number.', remedy: 'Give numbers of 0 or more.', use: true },
  FEATURE_LAYER: { cause: 'vision_feature_layer is no layer of the vision tower.', remedy: 'Give one inside the range that the message shows.' },
  HEADS_DO_NOT_DIVIDE: { cause: 'The hidden size is not a multiple of the number of attention heads.', remedy: 'Correct one of the two numbers.' },
  IMAGE_TOKEN_RANGE: { cause: 'The id of the image token lies outside the vocabulary.', remedy: 'Correct image_token_index or vocab_size.' },
  IMAGE_TOKEN_UNKNOWN: {
    cause: 'The tokenizer has no token with the id of image_token_index.',
    remedy: 'Add the token to tokenizer.json, or correct the index.',
  },
  KEY_VALUE_HEADS: {
    cause: 'The query heads can not be shared evenly among the key-value heads.',
    remedy: 'Correct num_key_value_heads or num_attention_heads.',
  },
  NO_INITIAL: { cause: 'Training has no rule for the first value of a parameter.', remedy: 'Add the parameter to the table of initial values.' },
  NO_TOKENIZER: {
    cause: 'The directory has no tokenizer.json, so the model takes token ids only.',
    remedy: "Save the tokenizer with transformers' AutoTokenizer, or use generate and forward.",
  },
  ODD_HEAD_DIM: {
    cause: 'Rotary embeddings turn pairs of dimensions, and head_dim is odd.',
    remedy: 'Correct head_dim, or hidden_size and the number of heads.',
  },
  OPTION_UNKNOWN: {
    cause: 'A function was given an option that it does not have.',
    remedy: 'Use the names that the message lists.',
    use: true,
  },
  PATCHES_DO_NOT_DIVIDE: {
    cause: 'The image size of the vision tower is not a multiple of its patch size.',
    remedy: 'Correct image_size or patch_size.',
  },
  PREPROCESSOR_CONFIG: {
    cause: 'A field of preprocessor_config.json has a form that is not supported.',
    remedy: 'Use the form that the message shows.',
  },
  PREPROCESSOR_UNSUPPORTED: {
    cause: 'The checkpoint wants an image processor that this package does not have.',
    remedy: "Use a checkpoint with CLIP's or LLaVA's processor.",
  },
  TOKENIZER: {
    cause: 'tokenizer.json can not be used, for the reason given.',
    remedy: 'Get the file again, or save the tokenizer with a current transformers.',
  },
  TRAIN_SHAPE: { cause: 'The saved state of a training run is of a model of another shape.', remedy: 'Start without --resume.' },
  UNKNOWN_ACTIVATION: {
    cause: 'The configuration names an activation function that this package does not have.',
    remedy: 'Use one of the names that the message lists.',
  },
  UNSUPPORTED_CONFIG: {
    cause: 'The configuration asks for something that this package does not do (quantised weights, sides that differ, several feature layers).',
    remedy: 'Use a checkpoint without it.',
  },
  UNSUPPORTED_MODEL: {
    cause: 'The model, its decoder or its encoder is of a type that this package does not have.',
    remedy: "Use a LLaVA checkpoint in transformers' form with a CLIP tower and a Llama decoder, or a Llama.",
  },
  UNSUPPORTED_ROPE: {
    cause: 'Positions are embedded in a way that this package does not have.',
    remedy: 'Use a checkpoint with default, linear or llama3 scaling.',
  },
} as const;

export const IMAGE_CODES = {
  ASPECT_INVALID: { cause: 'aspect is neither "crop" nor "pad".', remedy: 'Give one of them, or leave the option out.', use: true },
  IMAGE_DAMAGED: { cause: 'The file has the form of an image, but its content can not be decoded.', remedy: 'Save or download it again.' },
  IMAGE_DATA: {
    cause: 'What was given as an image is none: another type, or pixels of another number or type.',
    remedy: 'Give a path, an address, the bytes of a file, or {width, height, data} with 8-bit RGB.',
  },
  IMAGE_EMPTY: { cause: 'The file has no bytes.', remedy: 'Check how it was saved or downloaded.' },
  IMAGE_FORMAT: {
    cause: 'The format is not one that is read; the message names it where it is known.',
    remedy: 'Convert the image to JPEG, PNG or WebP.',
  },
  IMAGE_GEOMETRY: {
    cause: 'Patches can not be placed: the image is not the one that was prepared, or there is no such patch.',
    remedy: 'Give the image that was prepared, and patches of its grid.',
  },
  IMAGE_NAN: { cause: 'Pixel values are NaN or infinite.', remedy: 'Check how the tensor was made.' },
  IMAGE_NOT_FOUND: { cause: 'The image can not be read from its path or address.', remedy: 'Check the path or address, and the connection.' },
  IMAGE_TENSOR: {
    cause: 'pixelValues has another shape or dtype than the vision tower takes.',
    remedy: 'Use prepareImages, or make float32 of the shape that the message shows.',
  },
  IMAGE_TOO_LARGE: {
    cause: 'The header declares more pixels than the limit, or a fetched file has more than 268,435,456 bytes; nothing was decoded.',
    remedy: 'Scale the image down, or raise maxPixels if you trust it.',
  },
  IMAGE_TRUNCATED: { cause: 'The file ends before the image does.', remedy: 'Save or download it again.' },
  IMAGE_ZERO_SIDE: { cause: 'A side of the image has no pixels, or is no whole number.', remedy: 'Give an image of at least one pixel each way.' },
  MAX_PIXELS_INVALID: { cause: 'The limit of pixels is not a whole number of at least 1.', remedy: 'Give one, or leave the option out.', use: true },
  OVERLAY_SCALE: { cause: 'The scale of an overlay is not a whole number of at least 1.', remedy: 'Give 1, 2, 3 or more.', use: true },
} as const;

export const PROMPT_CODES = {
  BAD_CHOICES: {
    cause: 'There is no choice, one is empty or there twice, or one can not be written as tokens of its own behind the prompt.',
    remedy: 'Give different texts in words that the tokenizer knows.',
    use: true,
  },
  BAD_CONTINUATION: {
    cause: 'There is no continuation to score, one is empty, or one has an id that is no text token.',
    remedy: 'Give lists of ids of the vocabulary.',
    use: true,
  },
  BAD_LOGITS_PROCESSOR: {
    cause: 'A logits processor returned another number of logits, NaN, plus infinity, or ruled every token out.',
    remedy: 'Correct it: one number a token, at least one of them finite. Two processors that each force a token rule out everything together.',
  },
  BAD_LOGPROBS: { cause: 'logprobs is not a whole number from 0 to 20.', remedy: 'Give how many alternatives of each token you want.', use: true },
  BAD_MAX_NEW_TOKENS: { cause: 'maxNewTokens is not a whole number of at least 1.', remedy: 'Give one, or leave the option out.', use: true },
  BAD_MIN_NEW_TOKENS: { cause: 'minNewTokens is not a whole number of at least 0.', remedy: 'Give one, or leave the option out.', use: true },
  BAD_SAMPLING: {
    cause: 'temperature, topP, topK, seed, a penalty or a bias lies outside its range.',
    remedy: 'Give a value in the range that the message shows.',
    use: true,
  },
  BAD_SCHEMA: {
    cause: 'A schema is no JSON Schema, contradicts itself, or refers to what is not there.',
    remedy: 'Correct the place that the message names.',
    use: true,
  },
  BAD_STOP: { cause: 'A stop string is empty, or no string.', remedy: 'Give strings of at least one character.', use: true },
  BAD_TOKEN_ID: { cause: 'An id of the prompt is none of the vocabulary.', remedy: "Use the model's own tokenizer.", use: true },
  CACHE_SHARED: { cause: 'Two requests of one batch have the same prompt cache.', remedy: 'Give each its own (fork()).', use: true },
  CHAT_TEMPLATE_REFUSED: {
    cause: 'The chat template does not take these messages, for the reason given.',
    remedy: 'Give the roles in the order that the template wants, mostly user and assistant in turn.',
  },
  CONTEXT_OVERFLOW: {
    cause: 'Prompt, visual tokens and answer do not fit into the context of the model.',
    remedy: 'Shorten the text, give fewer images, prune more, or lower maxNewTokens.',
    use: true,
  },
  EMPTY_PROMPT: { cause: 'The prompt has no message or no token.', remedy: 'Give a question.', use: true },
  IMAGE_TOKEN_COUNT: {
    cause: 'Places for images in the prompt and images given do not agree in number.',
    remedy: 'Use one "<image>" for each image, or none and let the library place them.',
    use: true,
  },
  NO_ANSWER: { cause: 'Generation ended without a result.', remedy: 'Report it: this is a fault of the package.' },
  NO_VISION: {
    cause: 'The model has no vision tower, and something was asked that needs one.',
    remedy: 'Ask without an image, or use a LLaVA model.',
    use: true,
  },
  NOTHING_ANALYSED: {
    cause: 'An analysis was given no picture, or a picture without a question.',
    remedy: 'Give pictures with at least one question each, or a number of scenes of at least 1.',
    use: true,
  },
  OPTION_CONFLICT: { cause: 'Two options were given that exclude each other.', remedy: 'Leave one of the two out.', use: true },
  PROMPTS_DIFFER: { cause: 'Prompts that are to share their beginning differ before their last image.', remedy: 'Ask the one that differs alone.' },
  SCHEMA_NEEDS_NODE: {
    cause: 'An answer by a schema is asked for in a page; the grammar library can not be bundled for one.',
    remedy: 'Ask in Node, or give choices.',
  },
  SCHEMA_TOKENIZER: {
    cause: 'The tokens of the model can not write what the schema asks for.',
    remedy: 'Ask without a schema, or use a model with a byte-level tokenizer or one with byte fallback, as Llama has.',
  },
  SCHEMA_UNSUPPORTED: {
    cause: 'The schema has a word, or two words together, that an answer can not be held to.',
    remedy: 'Leave it out and check the answer, or say it with the words that docs/schema.md lists.',
    use: true,
  },
  SPECIAL_TOKEN_IN_TEXT: {
    cause: 'The text contains what the tokenizer reads as a special token.',
    remedy: 'Leave it out, or write it otherwise.',
    use: true,
  },
  TOKENS_DIFFER: {
    cause: 'Pictures of one analysis have different numbers of visual tokens, so that their attention has no common index.',
    remedy: 'Analyse pictures of one size at a time.',
  },
} as const;

export const PRUNE_CODES = {
  ATTENTION_NOT_FINITE: {
    cause: 'Attention that a method ranks by is NaN or infinite.',
    remedy: 'Look for NaN or overflow in the weights or the image.',
  },
  ATTENTION_UNAVAILABLE: {
    cause: 'A method reads attention, queries or keys that this encoder does not have or was not told to compute.',
    remedy: 'Use another method or feature layer; a method of your own must declare its needs.',
  },
  BAD_REDUCTION: {
    cause: 'A method of your own kept or merged tokens inside the encoder or decoder that do not exist, do not ascend or have another shape.',
    remedy: 'Return indices of the current visual tokens, ascending, and as many merged states as places.',
  },
  BAD_SELECTION: {
    cause: 'A method of your own kept or merged patches that do not exist or do not ascend.',
    remedy: 'Return indices of the patches of the crop, ascending, and the patches of each merged token.',
  },
  BUDGET_AMBIGUOUS: { cause: 'A budget is given in two ways.', remedy: 'Give one of tokens, keepRatio and averageTokens.', use: true },
  BUDGET_MISSING: { cause: 'A method is asked for without a budget.', remedy: 'Give tokens or keepRatio.', use: true },
  BUDGET_UNREACHABLE: {
    cause: 'No number of kept tokens gives the average that was asked for.',
    remedy: 'Give an average in the range that the message shows, or a lower layer.',
    use: true,
  },
  CLIP_INVALID: {
    cause: "clip is not a CLIP checkpoint as loadClip gives it, or one of another width than the model's encoder.",
    remedy: "Load the CLIP that the model's vision tower was taken from, or leave the option out.",
    use: true,
  },
  ENCODED_FOR_ANOTHER: {
    cause: 'An image was encoded for a method that merges tokens inside the encoder, or for one that does not, and is asked about with another.',
    remedy: 'Encode the image for the method that is used.',
    use: true,
  },
  FEATURES_NOT_FINITE: {
    cause: 'Features of a patch are NaN or infinite.',
    remedy: "Look for NaN or overflow in the encoder's weights or the image.",
  },
  FEATURE_SHAPE: {
    cause: 'Features, attention or similarities are not of the same patches.',
    remedy: 'Give features [N, C] and attention [heads, N], without the class token.',
    use: true,
  },
  IMPORTANT_RATIO_INVALID: { cause: 'importantRatio is not a number from 0 to 1.', remedy: 'Give one; the usual is 0.5.', use: true },
  KEEP_RATIO_INVALID: { cause: 'keepRatio is not a number above 0 and at most 1.', remedy: 'Give one; 1 keeps all.', use: true },
  LAYER_INVALID: {
    cause: 'layer is not a block of the decoder before which tokens can be dropped.',
    remedy: 'Give a whole number in the range that the message shows.',
    use: true,
  },
  METHOD_LIST: {
    cause: 'A method with its options, or a list of methods to be compared, is not written as it should be.',
    remedy: 'Write name:option=value; of a list, names between commas, whose budgets and seeds are given for all.',
    use: true,
  },
  METHOD_OPTION_INVALID: {
    cause: 'An option of a pruning method has a value that it can not have, or that does not fit the budget.',
    remedy: 'Give one in the range that the message shows, or leave the option out.',
    use: true,
  },
  METHOD_OPTION_UNKNOWN: {
    cause: 'A pruning method was given an option that it does not have.',
    remedy: 'Use the options that the message lists.',
    use: true,
  },
  METHOD_UNKNOWN: { cause: 'There is no pruning method of that name.', remedy: 'Use one of the names that the message lists.', use: true },
  OPTIONS_INVALID: {
    cause: 'What was given as pruning is neither options nor a method of your own.',
    remedy: 'Give {method, ...} or an object with the interface Pruner.',
    use: true,
  },
  QUESTION_UNKNOWN: {
    cause: 'A method reads the question as text, and the call has ids alone.',
    remedy: 'Use ask or stream, which know the text, or an option of the method that does without.',
    use: true,
  },
  RATIOS_INVALID: {
    cause: 'A list of kept shares is not one a layer, has a share that is not above 0 and at most 1, or rises.',
    remedy: 'Give the share of all visual tokens that is left after each layer.',
    use: true,
  },
  RECIPE_INVALID: {
    cause: 'A recipe of deletions is not one whole number a block, or deletes all tokens.',
    remedy: 'Fit one to the model at hand with "vispruner tune".',
    use: true,
  },
  SEARCH_EMPTY: {
    cause: 'The search for a method found nothing that meets its conditions.',
    remedy: 'Give more samples, or conditions that the message shows to be within reach.',
    use: true,
  },
  SEED_INVALID: {
    cause: 'The seed of random pruning is not a whole number from 0 to 2^32 - 1.',
    remedy: 'Give one, or leave the option out.',
    use: true,
  },
  STEP_INVALID: { cause: 'step is not a whole number of at least 1.', remedy: 'Give one; the usual is 8.', use: true },
  SEARCH_OPTION: {
    cause: 'An option of a search for parameters has a value that it can not have.',
    remedy: 'Give a number in the range that the message shows.',
    use: true,
  },
  SEARCH_UNKNOWN: {
    cause: 'There is no search for the parameters of that method.',
    remedy: 'Use one of the names that the message lists; other methods need none.',
    use: true,
  },
  TOKENS_EXCEED_PATCHES: {
    cause: 'More visual tokens are to be kept than a crop has.',
    remedy: 'Give at most as many, or keepRatio for crops of any size.',
    use: true,
  },
  TOKENS_INVALID: {
    cause: 'A number of tokens to keep is not a number of at least 1, or not whole.',
    remedy: 'Give a whole number of at least 1.',
    use: true,
  },
  TWO_ENCODINGS: {
    cause: 'Methods that merge tokens inside the encoder in different ways, or not at all, were to share one encoding.',
    remedy: 'Encode the image for each of them by itself.',
    use: true,
  },
  VERSION_INVALID: { cause: 'A method has no version of that name.', remedy: 'Give one of those that the message lists.', use: true },
} as const;

export const BACKEND_CODES = {
  BACKEND_UNAVAILABLE: {
    cause: 'The backend does not work on this machine, for the reasons given.',
    remedy: '"vispruner doctor" tells which do; wasm works wherever Node does.',
  },
  DTYPE_UNAVAILABLE: {
    cause: 'The backend in use can not compute with weights of that precision.',
    remedy: 'Use the backend "tensorflow" or "cuda" for half precision (int8: with the compiled binding), or dtype "auto" or "float32".',
  },
  HALF_OVERFLOW: {
    cause: 'A weight has values that the half-precision type asked for can not hold (float16 ends at 65504).',
    remedy: 'Use dtype "bfloat16" or "float32".',
  },
  LOGITS_NOT_FINITE: {
    cause: 'The logits of the model hold NaN or infinity.',
    remedy: 'Its weights are damaged, or numbers overflowed: "vispruner inspect --check-finite" finds damage.',
  },
  NATIVE_CHECKSUM: {
    cause: 'A file for the native backend differs from the SHA-256 that it should have; it was not used.',
    remedy: 'Get it again, from an index that serves the original files.',
  },
  NATIVE_INSTALL: {
    cause: 'The native backend could not be installed, for the reason given.',
    remedy: 'Follow the advice in the message; the wasm backend needs no installation.',
  },
  NATIVE_LOAD: {
    cause: 'tfjs-node is there but does not load.',
    remedy: 'Install it again with "vispruner doctor --install-native", or remove its folder to use wasm.',
  },
  NATIVE_REQUIREMENTS: {
    cause: 'Something that the installation of the native backend needs is missing.',
    remedy: 'The message names everything that is, and how to get it; nothing was changed.',
  },
  NATIVE_TWO_TFJS: {
    cause: 'tfjs-node uses a TensorFlow.js of its own, whose backends are not visible here.',
    remedy: 'Remove the second copy (npm dedupe), or use "vispruner doctor --install-native".',
  },
  SECOND_BACKEND: { cause: 'The process runs on one backend, and another was asked for.', remedy: 'Use another process or worker.' },
  TOO_LARGE_FOR_WASM: {
    cause: 'The weights are larger than the memory of WebAssembly.',
    remedy: 'Use the backend "tensorflow" or "cuda", or a smaller model.',
  },
  TOO_LARGE_FOR_WEBGPU: {
    cause: 'A tensor is larger than the largest buffer of the GPU.',
    remedy: 'Shorten the prompt, give fewer images, or keep fewer visual tokens ("prune").',
  },
  UNKNOWN_BACKEND: { cause: 'There is no backend of that name.', remedy: 'Use one of the names that the message lists.', use: true },
  UNKNOWN_PRECISION: { cause: 'There is no precision of that name.', remedy: 'Use one of the names that the message lists.', use: true },
  WEBGPU_FAILED: {
    cause: 'The GPU, its driver or its memory failed, and what it holds can not be trusted any more.',
    remedy: 'Load the model anew in another process or worker; take a smaller model if memory ran out.',
  },
} as const;

export const STATE_CODES = {
  ALREADY_FILLED: {
    cause: 'A parameter was declared, or filled anew, after its source was filled.',
    remedy: 'Build every layer before fill(); make a new source for other values.',
  },
  CHAT_BUSY: {
    cause: 'A chat was told something while it was still answering the turn before.',
    remedy: 'Wait for the answer, or abort it, before the next turn; use a chat of its own for each conversation.',
  },
  DECLARED_DIFFERENTLY: {
    cause: 'Two layers declare a parameter of the same name with different shapes.',
    remedy: 'Correct one of them, or give each a name of its own.',
  },
  DECLARED_TWICE: { cause: 'A parameter that is trained was declared twice.', remedy: 'Build each model from parameters of its own.' },
  DISPOSED: {
    cause: 'A model, cache, file, image or parameter is used after it was disposed or closed.',
    remedy: 'Dispose it later, or make it again.',
  },
  EMPTY_CACHE: { cause: 'A key-value cache without tokens was to be attended to.', remedy: 'Append keys and values first.' },
  NOT_DECLARED: { cause: 'A value was put under a name that no layer declared.', remedy: 'Declare the parameter first.' },
  NOT_FILLED: { cause: 'A layer is used before its parameters have values.', remedy: "Wait for the source's fill()." },
  NO_BLOCK_INPUT: {
    cause: 'A method asked for attention of a decoder block whose input is no longer at hand.',
    remedy: 'Ask for the current block, or declare needs.blockInput.',
  },
  STAGE_MISSING: { cause: 'A stage of training starts from another, which was not run.', remedy: 'Run that stage first.' },
} as const;

/** Of an evaluation: what it is asked from, and what it wrote. */
export const DATA_CODES = {
  DATA_EMPTY: { cause: 'A data set has no question.', remedy: 'Check its mapping and its files.' },
  DATA_FILE: {
    cause: 'A file of a data set is not there or can not be read.',
    remedy: 'Check the path: paths in a mapping are from its own folder.',
  },
  DATA_IMAGE: { cause: 'Images that a data set asks about are not there.', remedy: 'Check where the mapping says that images lie.' },
  DATA_MAPPING: {
    cause: 'The mapping of a data set names an unknown format, or has a field that is missing, wrong or unknown.',
    remedy: 'Write what docs/eval.md shows for that format.',
  },
  DATA_ROW: {
    cause: 'A row of a data set is not as its format has it.',
    remedy: 'Correct the place that the message names, or take the released files.',
  },
  RESULTS_APART: {
    cause: 'Results of different models or data sets can not be counted together.',
    remedy: 'Merge files of one model and one data set.',
  },
  RESULTS_DAMAGED: { cause: 'A results file has a line that is not one of results.', remedy: 'Remove the line, or write the file anew (--fresh).' },
  RESULTS_MISSING: { cause: 'A results file is not there, is empty or can not be read.', remedy: 'Give a file that vispruner eval wrote.' },
  RESULTS_OTHER: {
    cause: 'A results file was begun with another model, data set or other options.',
    remedy: 'Give another --results, or write the file anew (--fresh).',
  },
  SAMPLES_DAMAGED: {
    cause: 'A file of samples is empty, or a line of it is not an image and a question.',
    remedy: 'Write one sample a line: {"image": "a.jpg", "question": "..."}.',
  },
} as const;

export const OUTPUT_CODES = {
  NO_SPACE: { cause: 'The disk has not the room for what is to be written.', remedy: 'Make room, or choose a folder on another disk.' },
  SAME_DIRECTORY: { cause: 'A conversion was to write into its own source.', remedy: 'Give another target.', use: true },
  TARGET_EXISTS: {
    cause: 'The target exists already and is not an empty directory.',
    remedy: 'Give another target, or allow it to be replaced (--overwrite).',
  },
  WRITE_FAILED: { cause: 'A file can not be written, for the reason given.', remedy: 'Check the folder, its permissions and the free space.' },
} as const;

/** Thrown by the command line alone. */
export const USE_CODES = {
  CHAT_OVERLAY: {
    cause: 'A picture of the kept patches is asked for together with --chat, which has many answers.',
    remedy: 'Use vispruner select for the picture, or ask without --chat.',
    use: true,
  },
  NO_IMAGE: {
    cause: 'A picture is to be drawn over an image, and none is given.',
    remedy: 'Name an image before the question, or leave out --overlay.',
    use: true,
  },
  OVERLAY_METHOD: {
    cause: 'The method drops tokens inside the decoder, so there are no kept patches to draw.',
    remedy: 'Use a method that acts before the decoder.',
    use: true,
  },
  OVERLAY_NAME: { cause: 'The picture is written as PNG, but its name says otherwise.', remedy: 'Give a name that ends in .png.', use: true },
  PRUNE_OPTIONS_TWICE: {
    cause: 'Pruning, or an option of it, is given in two places of the command line.',
    remedy: 'Leave one of the two out.',
    use: true,
  },
  QUESTION_MISSING: { cause: 'The command line has images and no question.', remedy: 'Write the question as the last word, in quotes.', use: true },
} as const;

/** Thrown by the server alone, when it is made or started. */
export const SERVER_CODES = {
  CANNOT_LISTEN: {
    cause: 'The server can not listen at that address and port, for the reason given.',
    remedy: 'Give another port (0 takes any free one) or another host, or end the program that listens there.',
  },
  SERVER_OPTION: { cause: 'An option of the server lies outside its range.', remedy: 'Give a value in the range that the message shows.', use: true },
} as const;

/** What the server answers to a request that it refuses. */
export const REQUEST_CODES = {
  API_KEY_WRONG: { cause: 'The server wants a key, and none or another one was sent.', remedy: 'Send "Authorization: Bearer KEY" with its key.' },
  BODY_NOT_JSON: { cause: 'The body of a request is not JSON.', remedy: 'Send a JSON object.' },
  BODY_TOO_LARGE: {
    cause: 'The body of a request is larger than the server takes.',
    remedy: 'Send smaller images, or start it with a larger --max-body.',
  },
  CONTENT_TYPE: { cause: 'The body of a request does not say that it is JSON.', remedy: 'Send the header "Content-Type: application/json".' },
  DATA_URI_INVALID: { cause: 'A data URI has no data in base64.', remedy: 'Write "data:image/png;base64," and the bytes in base64.' },
  FIELD_INVALID: { cause: 'A field of a request has a value that can not be had.', remedy: 'Give a value as the message and docs/server.md say.' },
  FIELD_UNKNOWN: { cause: 'A request has a field that is not known.', remedy: 'Leave it out, or correct its name.' },
  HOST_REFUSED: {
    cause: 'A server for this machine alone was addressed by a name that is not its own, as a web page may do by DNS rebinding.',
    remedy: 'Use localhost or 127.0.0.1, or start the server with a key.',
  },
  IMAGE_URL_REFUSED: {
    cause: 'The server does not fetch the address of an image, or could not, for the reason given.',
    remedy: 'Send the image as a data URI, or give an address of a public host to a server that was started with --allow-url.',
  },
  METHOD_NOT_ALLOWED: { cause: 'The address is right and the HTTP method is not.', remedy: 'Use the method that the message names.' },
  MODEL_UNKNOWN: { cause: 'The server has no model of that name.', remedy: 'Use the name that /v1/models lists.' },
  ORIGIN_REFUSED: {
    cause: 'The request comes from a web page of another origin.',
    remedy: 'Start the server with --cors and that origin, if you trust it.',
  },
  PROMPT_TOO_LONG: { cause: 'The messages are longer than could fit into the context of the model.', remedy: 'Shorten them.' },
  QUEUE_FULL: { cause: 'As many requests wait as the server lets wait.', remedy: 'Try again after the seconds that Retry-After says.' },
  ROUTE_UNKNOWN: { cause: 'The server has nothing at that address.', remedy: 'Use one of those that docs/server.md lists.' },
  SERVER_ENDING: { cause: 'The server is ending and takes no more requests.', remedy: 'Ask another one, or this one once it is back.' },
  SERVER_FAILED: { cause: 'The server failed at a request that it should have answered.', remedy: 'Look into its log.' },
  TOO_MANY_IMAGES: { cause: 'A request has more images than the server takes.', remedy: 'Give fewer, or start it with a larger --max-images.' },
} as const;

/** All of them, by the class that has them. */
export const ERROR_CODES: Readonly<Record<string, Readonly<Record<string, CodeEntry>>>> = {
  CheckpointError: CHECKPOINT_CODES,
  HubError: HUB_CODES,
  ConfigError: CONFIG_CODES,
  ImageError: IMAGE_CODES,
  PromptError: PROMPT_CODES,
  PruneError: PRUNE_CODES,
  BackendError: BACKEND_CODES,
  StateError: STATE_CODES,
  DataError: DATA_CODES,
  OutputError: OUTPUT_CODES,
  UseError: USE_CODES,
  ServerError: SERVER_CODES,
  RequestError: REQUEST_CODES,
};
