/** Has the driver judged without a test framework, and prints the verdict. */
import { runConformance } from '@iommukit/driver-testkit';
import { flatIommu } from './driver.ts';

const outcomes = runConformance({ name: 'flat IOMMU', createDriver: flatIommu });
for (const { name, spec, skipped, error } of outcomes) {
  const verdict = error ? 'FAILED ' : skipped ? 'skipped' : 'passed ';
  console.log(`${verdict} ${name} [${spec}]${skipped ? `: ${skipped}` : ''}`);
  if (error) console.log(`        ${error.message}`);
}
const failed = outcomes.filter(({ error }) => error).length;
const skipped = outcomes.filter((outcome) => outcome.skipped).length;
console.log(`${outcomes.length - failed - skipped} passed, ${skipped} skipped, ${failed} failed`);
if (failed > 0) process.exitCode = 1;
