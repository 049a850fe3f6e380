/** What the installation of the native backend compiles and installs goes into the package as it is: the C++ of its operations, and npm's lock file. */
import fs from 'node:fs';
import path from 'node:path';

for (const folder of ['kernels', 'packages']) {
  const own = path.join('lib', 'backend', 'native', folder);
  fs.cpSync(own, path.join('dist', 'cjs', own), { recursive: true });
}
