// Benchmarks of the SMMUv3 unit, as built in dist: DMA, attach, invalidation, and a large machine.
//
//   node run.mjs [--json] [--write] [--rounds N] [--op OP]...
import { runUnitBench } from '../../../scripts/lib/unit-bench/run.mjs';
import { OPERATIONS } from './operations.mjs';

runUnitBench({
  url: import.meta.url,
  name: 'driver-smmuv3',
  operations: OPERATIONS,
  about: `The package as built, through its public calls: the host half writes tables and commands to memory, the hardware
half reads them there. Walks miss the TLB because 65,536 pages are asked for in random order and 2,048 fit. The
\`scale\` rows are one machine with 10,000 devices, a domain each, and 1,000,000 mapped pages; memory is per device or
page, table memory counts as buffers.`,
});
