import type { Flavour } from '../backend/native/folders';
import { type Installed, installNative } from '../backend/native/install';
import { bytes } from './output';
import { progressBar } from './progress';

export interface InstallFlags {
  readonly installNative?: boolean;
  readonly cuda?: boolean;
  readonly stock?: boolean;
  readonly wheel?: readonly string[];
}

export function flavourOf({ cuda, stock }: InstallFlags): Flavour {
  if (cuda) return 'cuda';
  return stock ? 'stock' : 'cpu';
}

/** Installs the native backend; each step is named on stderr, with a bar where that is a terminal. */
export async function install(flags: InstallFlags, signal: AbortSignal): Promise<Installed> {
  let step: string | undefined;
  let bar = progressBar('', bytes);
  const report = (name: string, done?: number, total?: number) => {
    if (name !== step) {
      bar.stop();
      console.error(`${name} ...`);
      bar = progressBar(name, bytes);
      step = name;
    }
    if (done !== undefined && total !== undefined) bar.update(done, total);
  };
  return installNative({ flavour: flavourOf(flags), wheels: flags.wheel, report, signal }).finally(() => bar.stop());
}

export function installedReport({ root, flavour, tensorflow, patch, bytes: size, seconds }: Installed): string {
  const what = patch > 0 ? `additions of version ${patch}` : 'no additions: float32 only';
  return `Installed (${flavour}): TensorFlow ${tensorflow}, ${what}; ${bytes(size)} in ${root}, in ${seconds.toFixed(0)} s\n\n`;
}
