/** `hardware-cases FILE_OR_DIR...`: replay case files, say what differs. */
import { runPaths } from './run.ts';

const SHOWN = 20;

const paths = process.argv.slice(2);
if (paths.length === 0) {
  console.error('usage: hardware-cases FILE_OR_DIR... (iommu-case/1 as .json or .json.gz)');
  process.exitCode = 2;
} else {
  try {
    const { cases, probes, different } = runPaths(paths);
    for (const line of different.slice(0, SHOWN)) console.log(line);
    if (different.length > SHOWN) console.log(`... and ${different.length - SHOWN} more`);
    console.log(`${cases} cases, ${probes} probes, ${different.length} different`);
    process.exitCode = different.length > 0 || cases === 0 ? 1 : 0;
  } catch (error) {
    console.error(`hardware-cases: ${(error as Error).message}`);
    process.exitCode = 2;
  }
}
