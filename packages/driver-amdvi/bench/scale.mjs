// A large machine: 10,000 devices, each with a domain of its own, and 1,000,000 mapped pages.
//
//   node --expose-gc scale.mjs ROUNDS
import * as core from '@iommukit/core';
import { measureScale } from '../../../scripts/lib/unit-bench/scale.mjs';
import { amdvi } from '../dist/index.js';
import { frames, mapPages } from './machine.mjs';

measureScale({
  core,
  driver: amdvi(),
  frames,
  mapPages,
  hits: (unit) => unit.hardware.stats().iotlbHits,
  rounds: Number(process.argv[2]),
});
