import type { Flavour } from '../folders';

/** A file of the Python package index. Its contents do not depend on the Python that runs here: only libraries and headers are taken out of it. */
export interface Wheel {
  readonly project: string;
  readonly version: string;
  readonly bytes: number;
  readonly sha256: string;
}

export const TENSORFLOW = '2.21.0';

const CPU: readonly Wheel[] = [
  { project: 'tensorflow-cpu', version: '2.21.0', bytes: 273829956, sha256: '2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c' },
];

/** TensorFlow with CUDA 12, and the libraries of its extra "and-cuda". */
const CUDA: readonly Wheel[] = [
  { project: 'tensorflow', version: '2.21.0', bytes: 572440367, sha256: '9056fbc9ba04235810b71ae6cbd958a196e8804fb53bbcffbf3e23b56155f124' },
  {
    project: 'nvidia-cublas-cu12',
    version: '12.9.3.13',
    bytes: 581217458,
    sha256: 'd7d51055f161b317c7105ddaae90e71eda059026074ffef93cf7cde2886bfe72',
  },
  {
    project: 'nvidia-cuda-cupti-cu12',
    version: '12.8.90',
    bytes: 10248621,
    sha256: 'ea0cb07ebda26bb9b29ba82cda34849e73c166c18162d3913575b0c9db9a6182',
  },
  {
    project: 'nvidia-cuda-nvcc-cu12',
    version: '12.9.86',
    bytes: 40546229,
    sha256: '5d6a0d32fdc7ea39917c20065614ae93add6f577d840233237ff08e9a38f58f0',
  },
  {
    project: 'nvidia-cuda-nvrtc-cu12',
    version: '12.9.86',
    bytes: 89568129,
    sha256: '210cf05005a447e29214e9ce50851e83fc5f4358df8b453155d5e1918094dcb4',
  },
  {
    project: 'nvidia-cuda-runtime-cu12',
    version: '12.9.79',
    bytes: 3493179,
    sha256: '25bba2dfb01d48a9b59ca474a1ac43c6ebf7011f1b0b8cc44f54eb6ac48a96c3',
  },
  {
    project: 'nvidia-cudnn-cu12',
    version: '9.28.0.42',
    bytes: 716538495,
    sha256: '9ff58b7f36dacd0a93e89f8f2957b52466889217963701daa15e577317cfa375',
  },
  { project: 'nvidia-cufft-cu12', version: '11.4.1.4', bytes: 200877592, sha256: 'c67884f2a7d276b4b80eb56a79322a95df592ae5e765cf1243693365ccab4e28' },
  {
    project: 'nvidia-curand-cu12',
    version: '10.3.10.19',
    bytes: 68295626,
    sha256: '49b274db4780d421bd2ccd362e1415c13887c53c214f0d4b761752b8f9f6aa1e',
  },
  {
    project: 'nvidia-cusolver-cu12',
    version: '11.7.5.82',
    bytes: 338117415,
    sha256: '15da72d1340d29b5b3cf3fd100e3cd53421dde36002eda6ed93811af63c40d88',
  },
  {
    project: 'nvidia-cusparse-cu12',
    version: '12.5.10.65',
    bytes: 366465088,
    sha256: '73060ce019ac064a057267c585bf1fd5a353734151f87472ff02b2c5c9984e78',
  },
  { project: 'nvidia-nccl-cu12', version: '2.32.3', bytes: 351526311, sha256: 'bb94b2348e4861d5e8aa00b36c3d12d9bdf9c6369b82cbb723de0b582280a21c' },
  {
    project: 'nvidia-nvjitlink-cu12',
    version: '12.9.86',
    bytes: 39748338,
    sha256: 'e3f1171dbdc83c5932a45f0f4c99180a70de9bd2718c1ab77d14104f6d7147f9',
  },
];

export const WHEELS: Readonly<Record<Exclude<Flavour, 'stock'>, readonly Wheel[]>> = { cpu: CPU, cuda: CUDA };

/** pip's names for "the file for CPython 3.11 on Linux x86-64 with any glibc from 2.12 to 2.27", whatever runs here. */
export const TARGET: readonly string[] = [
  ...['--python-version', '3.11', '--implementation', 'cp', '--abi', 'cp311', '--abi', 'none'],
  ...['manylinux_2_27', 'manylinux_2_17', 'manylinux2014', 'manylinux2010', 'manylinux_2_12'].flatMap((platform) => [
    '--platform',
    `${platform}_x86_64`,
  ]),
];

const HEADERS: readonly string[] = [
  'tensorflow/c/',
  'tensorflow/core/platform/',
  'tensorflow/core/common_runtime/next_pluggable_device/c/',
  'tsl/platform/',
  'xla/tsl/c/',
].map((folder) => `tensorflow/include/${folder}`);

/** Files of the wheels that compiling and running need; the rest is Python's. */
export function isNeeded(name: string): boolean {
  if (HEADERS.some((folder) => name.startsWith(folder))) return true;
  return /^(?:tensorflow\/libtensorflow_(?:cc|framework)\.so\.2|nvidia\/.*(?:\.so[.\d]*|\.bc|\/bin\/ptxas))$/.test(name);
}
