// A large machine: 10,000 devices, each with a domain of its own, and 1,000,000 mapped pages.
//
//   node --expose-gc scale.mjs ROUNDS
import * as core from '@iommukit/core';
import { measureScale } from '../../../scripts/lib/unit-bench/scale.mjs';
import { smmuv3 } from '../dist/index.js';
import { frames, mapPages } from './machine.mjs';

measureScale({
  core,
  driver: smmuv3(),
  frames,
  mapPages,
  hits: (unit) => unit.hardware.caches.tlb.statistics.hits,
  rounds: Number(process.argv[2]),
});
